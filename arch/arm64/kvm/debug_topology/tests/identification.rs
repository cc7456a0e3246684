// SPDX-License-Identifier: GPL-2.0

//! Tests the meaning of ID_AA64DFR0_EL1 and ID_AA64DFR1_EL1. The table was written from the Arm
//! ARM (D2.8.1, D2.8.3, D24.2.80, D24.2.81) by an author who had not seen the code.

use super::*;

/// DFR0.{BRPs, CTX_CMPs}, DFR1.{BRPs, CTX_CMPs}.
type Fields = (u64, u64, u64, u64);

/// The number of breakpoints in the first bank; the first context-aware one; one past the last.
type Meaning = (usize, usize, usize);

/// [`None`] is for values that no implementation has. Rows marked `[id]` follow from the
/// descriptions of the ID registers alone: D2.8.3 has no such machine. Rows marked `[lit]`
/// follow from the literal wording of one sentence.
#[rustfmt::skip]
const ROWS: &[(Fields, Option<Meaning>)] = &[
// 1. ID_AA64DFR1_EL1 fields zero (no Debugv8p9, or Debugv8p9 with 16 or fewer): DFR0.BRPs + 1
//    breakpoints, the highest numbered CTX_CMPs + 1 of them are context-aware.
((1, 0, 0, 0), Some((2, 1, 2))),
((1, 1, 0, 0), Some((2, 0, 2))),
((2, 0, 0, 0), Some((3, 2, 3))),
((3, 1, 0, 0), Some((4, 2, 4))),
((5, 1, 0, 0), Some((6, 4, 6))),
((5, 5, 0, 0), Some((6, 0, 6))),
((7, 3, 0, 0), Some((8, 4, 8))),
((9, 3, 0, 0), Some((10, 6, 10))),
((14, 0, 0, 0), Some((15, 14, 15))),
((14, 14, 0, 0), Some((15, 0, 15))),
((15, 0, 0, 0), Some((16, 15, 16))),
((15, 1, 0, 0), Some((16, 14, 16))),
((15, 14, 0, 0), Some((16, 1, 16))),
((15, 15, 0, 0), Some((16, 0, 16))),

// 2. DFR1 nonzero but still 16 or fewer breakpoints; DFR1.BRPs repeats DFR0.BRPs (0 or the same is
//    permitted).
((5, 1, 5, 0), Some((6, 4, 6))),
((5, 1, 5, 1), Some((6, 4, 6))),
((1, 0, 1, 0), Some((2, 1, 2))),
((15, 3, 15, 3), Some((16, 12, 16))),
((15, 15, 15, 15), Some((16, 0, 16))),

// 3. 17..64 breakpoints, 16 or fewer context-aware, ending at index 15.
((15, 0, 16, 0), Some((16, 15, 16))),
((15, 1, 16, 1), Some((16, 14, 16))),
((15, 3, 19, 0), Some((16, 12, 16))),
((15, 3, 31, 3), Some((16, 12, 16))),
((15, 7, 47, 0), Some((16, 8, 16))),
((15, 14, 32, 14), Some((16, 1, 16))),
((15, 0, 63, 0), Some((16, 15, 16))),
((15, 3, 63, 3), Some((16, 12, 16))),

// 4. 17..64 breakpoints, exactly 16 context-aware: 0..15. DFR1.CTX_CMPs is 0 or 15.
((15, 15, 16, 0), Some((16, 0, 16))),
((15, 15, 16, 15), Some((16, 0, 16))),
((15, 15, 63, 0), Some((16, 0, 16))),
((15, 15, 63, 15), Some((16, 0, 16))),

// 5. More than 16 context-aware: numbered from 0, so every one of bank 0 is.
((15, 15, 16, 16), Some((16, 0, 16))),
((15, 15, 20, 17), Some((16, 0, 16))),
((15, 15, 31, 16), Some((16, 0, 16))),
((15, 15, 32, 32), Some((16, 0, 16))),
((15, 15, 63, 31), Some((16, 0, 16))),
((15, 15, 63, 63), Some((16, 0, 16))),

// 6. 17..64 breakpoints, context-aware ones end at DFR0.BRPs < 15.
((1, 0, 16, 0), Some((16, 1, 2))),        // [id]
((1, 1, 63, 1), Some((16, 0, 2))),        // [id]
((5, 1, 16, 0), Some((16, 4, 6))),        // [id]
((5, 1, 31, 1), Some((16, 4, 6))),        // [id]
((5, 5, 63, 0), Some((16, 0, 6))),        // [id]
((9, 3, 19, 0), Some((16, 6, 10))),       // [id]
((11, 3, 47, 3), Some((16, 8, 12))),      // [id]
((14, 0, 16, 0), Some((16, 14, 15))),     // [id]
((14, 14, 63, 14), Some((16, 0, 15))),    // [id]

// 7. 16 or fewer breakpoints, context-aware ones end below the top (DFR1.BRPs > DFR0.BRPs).
((5, 1, 9, 0), Some((10, 4, 6))),         // [id]
((5, 1, 15, 1), Some((16, 4, 6))),        // [id]
((1, 0, 2, 0), Some((3, 1, 2))),          // [id]
((14, 3, 15, 0), Some((16, 11, 15))),     // [id]

// 8. Illegal: DFR0.BRPs 0b0000 is reserved, whatever the rest says.
((0, 0, 0, 0), None),
((0, 0, 1, 0), None),
((0, 0, 16, 0), None),
((0, 15, 63, 31), None),

// 9. Illegal: DFR0.CTX_CMPs greater than DFR0.BRPs.
((1, 2, 0, 0), None),
((5, 6, 0, 0), None),
((14, 15, 0, 0), None),
((14, 15, 31, 0), None),
((14, 15, 31, 31), None),        // more than 16 context-aware needs both DFR0 fields 0b1111

// 10. Illegal: DFR1.BRPs nonzero but less than DFR0.BRPs.
((5, 1, 4, 0), None),
((15, 3, 14, 3), None),
((15, 0, 1, 0), None),

// 11. Illegal: DFR1.CTX_CMPs greater than DFR1.BRPs.
((15, 15, 20, 21), None),
((15, 15, 16, 63), None),
((15, 15, 0, 31), None),
((5, 1, 0, 1), None),            // [lit] 1 > DFR1.BRPs == 0

// 12. Illegal: DFR1.CTX_CMPs nonzero, 16 or fewer, and not the same as DFR0.CTX_CMPs.
((15, 7, 31, 8), None),
((15, 3, 31, 1), None),
((15, 15, 31, 14), None),
((5, 1, 5, 2), None),

// 13. Illegal: DFR1.CTX_CMPs says more than 16, DFR0.CTX_CMPs is not 0b1111.
((15, 7, 31, 31), None),
((15, 14, 63, 16), None),
((5, 1, 31, 16), None),

// 14. Illegal: DFR1 values above 0x3F are reserved.
((15, 3, 64, 0), None),
((15, 3, 255, 3), None),
((15, 15, 63, 64), None),
((15, 15, 255, 255), None),
];

fn registers((brps, ctx_cmps, brps1, ctx_cmps1): Fields) -> (u64, u64) {
    let rest = !(ID_AA64DFR0_EL1_BRPs_MASK | ID_AA64DFR0_EL1_CTX_CMPs_MASK);
    (
        (brps << ID_AA64DFR0_EL1_BRPs_SHIFT) | (ctx_cmps << ID_AA64DFR0_EL1_CTX_CMPs_SHIFT) | rest,
        (brps1 << ID_AA64DFR1_EL1_BRPs_SHIFT) | (ctx_cmps1 << ID_AA64DFR1_EL1_CTX_CMPs_SHIFT),
    )
}

#[test]
fn every_row_of_the_manual() {
    for (fields, meaning) in ROWS {
        let Some((registers_of_bank, first, end)) = *meaning else {
            continue;
        };
        let (dfr0, dfr1) = registers(*fields);
        let it = Topology::of(dfr0.into());
        assert_eq!(it.ordinary()..it.breakpoints(), first..end, "{fields:?}");
        assert_eq!(
            last_breakpoint(dfr0.into(), dfr1.into()) + 1,
            registers_of_bank,
            "{fields:?}"
        );
    }
}

/// Values that no implementation has do no harm.
#[test]
fn every_value_is_within_the_bank() {
    for brps in 0..16 {
        for ctx_cmps in 0..16 {
            for brps1 in 0..256 {
                let (dfr0, dfr1) = registers((brps, ctx_cmps, brps1, brps1));
                assert!(Topology::of(dfr0.into()).breakpoints() <= MAX);
                assert!(last_breakpoint(dfr0.into(), dfr1.into()) < MAX);
            }
        }
    }
}

/// ID_AA64DFR1_EL1.WRPs is the count of watchpoints minus one, unless it is 0.
#[test]
fn watchpoints() {
    for (wrps, wrps1, last) in [
        (3, 0, 3),
        (15, 0, 15),
        (3, 3, 3),
        (15, 16, 15),
        (15, 63, 15),
        (3, 9, 9),
    ] {
        let dfr0 = wrps << ID_AA64DFR0_EL1_WRPs_SHIFT;
        let dfr1 = wrps1 << ID_AA64DFR1_EL1_WRPs_SHIFT;
        assert_eq!(last_watchpoint(dfr0.into(), dfr1.into()), last);
    }
}
