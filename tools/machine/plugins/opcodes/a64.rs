// SPDX-License-Identifier: GPL-2.0

//! Classes of A64 instructions, decoded from the 32-bit opcode.
//!
//! Pure: a table of bit patterns, in the order of the encoding diagrams of the Arm ARM (DDI 0487,
//! chapter C4 "A64 Instruction Set Encoding"). In a pattern `0` and `1` are fixed bits, spaces are
//! for the eye, and any letter is an operand bit: `z` size, `A` acquire, `R` release, `s`, `n`,
//! `t` registers, and so on. The classes are disjoint; most instructions belong to none.

/// One allocated encoding: the fixed bits, and their values.
#[derive(Clone, Copy)]
struct Encoding {
    mask: u32,
    value: u32,
}

impl Encoding {
    const fn matches(self, insn: u32) -> bool {
        insn & self.mask == self.value
    }
}

/// Reads a 32-bit pattern, most significant bit first.
const fn encoding(pattern: &str) -> Encoding {
    let text = pattern.as_bytes();
    let (mut mask, mut value, mut bits, mut i) = (0u32, 0u32, 0, 0);

    while i < text.len() {
        if text[i] != b' ' {
            mask = (mask << 1) | matches!(text[i], b'0' | b'1') as u32;
            value = (value << 1) | (text[i] == b'1') as u32;
            bits += 1;
        }
        i += 1;
    }
    assert!(bits == 32, "a pattern is 32 bits");
    Encoding { mask, value }
}

/// Returns the encoding of `SYS #op1, C7, <CRm>, #op2{, <Xt>}`, of IC and DC operations (C5.3).
const fn sys7(op1: u32, crm: u32, op2: u32) -> Encoding {
    Encoding {
        mask: 0xffff_ffe0,
        value: 0xd508_7000 | (op1 << 16) | (crm << 8) | (op2 << 5),
    }
}

/// The encodings that are counted under one name.
struct Group {
    name: &'static str,
    encodings: &'static [Encoding],
}

const fn group(name: &'static str, encodings: &'static [Encoding]) -> Group {
    Group { name, encodings }
}

/// A class: the index of its row in the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Class(u8);

impl Class {
    /// How many classes there are; [`Class::index`] is smaller.
    pub const COUNT: usize = GROUPS.len();

    pub fn index(self) -> usize {
        self.0.into()
    }

    pub fn name(self) -> &'static str {
        GROUPS[self.index()].name
    }

    pub fn all() -> impl Iterator<Item = Class> {
        (0..GROUPS.len() as u8).map(Class)
    }
}

const GROUPS: &[Group] = &[
    // FEAT_LSE. LD<op> with Rt = 31 is ST<op>. LDAPR (o3 = 1, opc = 100), LD64B and ST64B*
    // (o3 = 1, opc = 001, 010, 011, 101 with size = 11) share the group "Atomic memory operations"
    // and are no read-modify-write: absent on purpose.
    group(
        "lse",
        &[
            // "Compare and swap pair". The registers come in even/odd pairs: odd is UNDEFINED.
            encoding("0z 0010000 L 1 ssss0 o 11111 nnnnn tttt0"),
            // "Compare and swap"
            encoding("zz 0010001 L 1 sssss o 11111 nnnnn ttttt"),
            // "Atomic memory operations": LDADD, LDCLR, LDEOR, LDSET, LDSMAX, LDSMIN, LDUMAX,
            // LDUMIN
            encoding("zz 111 0 00 AR 1 sssss 0 ooo 00 nnnnn ttttt"),
            // SWP
            encoding("zz 111 0 00 AR 1 sssss 1 000 00 nnnnn ttttt"),
        ],
    ),
    // FEAT_LSE128, "128-bit atomic memory operations": LDCLRP, LDSETP, SWPP. The encodings whose
    // Rt or Rt2 is 31 are UNDEFINED and still match, here and under rcw: no assembler makes them.
    group(
        "lse128",
        &[
            encoding("00 011001 AR 1 sssss 0 001 00 nnnnn ttttt"),
            encoding("00 011001 AR 1 sssss 0 011 00 nnnnn ttttt"),
            encoding("00 011001 AR 1 sssss 1 000 00 nnnnn ttttt"),
        ],
    ),
    // FEAT_LSUI, the single-instruction read-modify-writes: CAST, CASPT, LDTADD, LDTCLR, LDTSET,
    // SWPT.
    group(
        "lsui",
        &[
            encoding("11 0010011 L 0 sssss o 11111 nnnnn ttttt"),
            encoding("01 0010011 L 0 ssss0 o 11111 nnnnn tttt0"),
            encoding("0z 011001 AR 1 sssss 0 000 01 nnnnn ttttt"),
            encoding("0z 011001 AR 1 sssss 0 001 01 nnnnn ttttt"),
            encoding("0z 011001 AR 1 sssss 0 011 01 nnnnn ttttt"),
            encoding("0z 011001 AR 1 sssss 1 000 01 nnnnn ttttt"),
        ],
    ),
    // FEAT_LSUI, the exclusives: L(A)TXR, ST(L)TXR. They go through the exclusive monitor like
    // LDXR.
    group(
        "lsui_ex",
        &[
            encoding("1z 0010010 1 0 11111 o 11111 nnnnn ttttt"),
            encoding("1z 0010010 0 0 sssss o 11111 nnnnn ttttt"),
        ],
    ),
    // FEAT_LSUI, plain accesses: LDTP, STTP, LDTNP, STTNP, general and SIMD registers.
    group(
        "lsui_pair",
        &[encoding("11 101 V 0 xx L iiiiiii uuuuu nnnnn ttttt")],
    ),
    // FEAT_LSFE: LD[B]F{ADD,MAX,MIN,MAXNM,MINNM}, and the ST[B]F forms, which have Rt = 31 and
    // no A.
    group(
        "lsfe",
        &[
            encoding("zz 111 1 00 AR 1 sssss 0 000 00 nnnnn ttttt"),
            encoding("zz 111 1 00 AR 1 sssss 0 1oo 00 nnnnn ttttt"),
            encoding("zz 111 1 00 0R 1 sssss 1 000 00 nnnnn 11111"),
            encoding("zz 111 1 00 0R 1 sssss 1 1oo 00 nnnnn 11111"),
        ],
    ),
    // FEAT_THE: RCW and RCWS (bit 30) CLR, SWP, SET, CAS, CASP, CLRP, SWPP, SETP.
    group(
        "rcw",
        &[
            encoding("0S 111 0 00 AR 1 sssss 1 001 00 nnnnn ttttt"),
            encoding("0S 111 0 00 AR 1 sssss 1 010 00 nnnnn ttttt"),
            encoding("0S 111 0 00 AR 1 sssss 1 011 00 nnnnn ttttt"),
            encoding("0S 011001 AR 1 sssss 0 000 10 nnnnn ttttt"),
            encoding("0S 011001 AR 1 ssss0 0 000 11 nnnnn tttt0"),
            encoding("0S 011001 AR 1 sssss 1 001 00 nnnnn ttttt"),
            encoding("0S 011001 AR 1 sssss 1 010 00 nnnnn ttttt"),
            encoding("0S 011001 AR 1 sssss 1 011 00 nnnnn ttttt"),
        ],
    ),
    // "Exception generation"
    group("svc", &[encoding("11010100 000 iiiiiiiiiiiiiiii 000 01")]),
    group("hvc", &[encoding("11010100 000 iiiiiiiiiiiiiiii 000 10")]),
    group("smc", &[encoding("11010100 000 iiiiiiiiiiiiiiii 000 11")]),
    // "Unconditional branch (register)": ERET, then ERETAA and ERETAB.
    group(
        "eret",
        &[
            encoding("1101011 0100 11111 000000 11111 00000"),
            encoding("1101011 0100 11111 00001M 11111 11111"),
        ],
    ),
    // "Hints"
    group(
        "yield",
        &[encoding("1101010100 0 00 011 0010 0000 001 11111")],
    ),
    group(
        "psb",
        &[encoding("1101010100 0 00 011 0010 0010 001 11111")],
    ),
    // "System instructions" SYS and, for FEAT_D128, "System pair instructions" SYSP with CRn = 8,
    // or 9 for the nXS forms of FEAT_XS (C5.5 "A64 System instructions for TLB maintenance"). All
    // of that space is for TLB maintenance, so operations yet to be allocated count too.
    group(
        "tlbi",
        &[
            encoding("1101010100 0 01 000 100N mmmm ooo ttttt"),
            encoding("1101010100 0 01 100 100N mmmm ooo ttttt"),
            encoding("1101010100 0 01 110 100N mmmm ooo ttttt"),
            encoding("1101010101 0 01 000 100N mmmm ooo ttttt"),
            encoding("1101010101 0 01 100 100N mmmm ooo ttttt"),
            encoding("1101010101 0 01 110 100N mmmm ooo ttttt"),
        ],
    ),
    // C5.3 "A64 System instructions for cache maintenance"
    group("ic_ialluis", &[sys7(0, 1, 0)]),
    group("ic_iallu", &[sys7(0, 5, 0)]),
    group("ic_ivau", &[sys7(3, 5, 1)]),
    group("dc_ivac", &[sys7(0, 6, 1)]),
    group("dc_isw", &[sys7(0, 6, 2)]),
    group("dc_igvac", &[sys7(0, 6, 3)]),
    group("dc_igsw", &[sys7(0, 6, 4)]),
    group("dc_igdvac", &[sys7(0, 6, 5)]),
    group("dc_igdsw", &[sys7(0, 6, 6)]),
    group("dc_csw", &[sys7(0, 10, 2)]),
    group("dc_cgsw", &[sys7(0, 10, 4)]),
    group("dc_cgdsw", &[sys7(0, 10, 6)]),
    group("dc_cisw", &[sys7(0, 14, 2)]),
    group("dc_cigsw", &[sys7(0, 14, 4)]),
    group("dc_cigdsw", &[sys7(0, 14, 6)]),
    group("dc_zva", &[sys7(3, 4, 1)]),
    group("dc_gva", &[sys7(3, 4, 3)]),
    group("dc_gzva", &[sys7(3, 4, 4)]),
    group("dc_cvac", &[sys7(3, 10, 1)]),
    group("dc_cgvac", &[sys7(3, 10, 3)]),
    group("dc_cgdvac", &[sys7(3, 10, 5)]),
    group("dc_cvau", &[sys7(3, 11, 1)]),
    group("dc_cvap", &[sys7(3, 12, 1)]),
    group("dc_cgvap", &[sys7(3, 12, 3)]),
    group("dc_cgdvap", &[sys7(3, 12, 5)]),
    group("dc_cvadp", &[sys7(3, 13, 1)]),
    group("dc_cgvadp", &[sys7(3, 13, 3)]),
    group("dc_cgdvadp", &[sys7(3, 13, 5)]),
    group("dc_civac", &[sys7(3, 14, 1)]),
    group("dc_cigvac", &[sys7(3, 14, 3)]),
    group("dc_cigdvac", &[sys7(3, 14, 5)]),
    // FEAT_OCCMO
    group("dc_cvaoc", &[sys7(3, 11, 0)]),
    group("dc_cgdvaoc", &[sys7(3, 11, 7)]),
    group("dc_civaoc", &[sys7(3, 15, 0)]),
    group("dc_cigdvaoc", &[sys7(3, 15, 7)]),
    // FEAT_MEC
    group("dc_cipae", &[sys7(4, 14, 0)]),
    group("dc_cigdpae", &[sys7(4, 14, 7)]),
    // FEAT_RME
    group("dc_cipapa", &[sys7(6, 14, 1)]),
    group("dc_cigdpapa", &[sys7(6, 14, 5)]),
    // FEAT_PoPS
    group("dc_civaps", &[sys7(0, 15, 1)]),
    group("dc_cigdvaps", &[sys7(0, 15, 5)]),
];

/// Returns the class of an opcode, if it is in one.
pub fn classify(insn: u32) -> Option<Class> {
    Class::all().find(|class| {
        let mut encodings = GROUPS[class.index()].encodings.iter();
        encodings.any(|encoding| encoding.matches(insn))
    })
}

/// Sums that are reported, and can be asked for, under a name of their own.
pub const FAMILIES: [&str; 3] = ["atomics", "ic", "dc"];

/// Returns whether `class` belongs to `family`.
///
/// `atomics` is every single-instruction read-modify-write of memory, so not `lsui_ex` and
/// `lsui_pair`.
pub fn in_family(class: Class, family: &str) -> bool {
    match family {
        "atomics" => matches!(class.name(), "lse" | "lse128" | "lsui" | "lsfe" | "rcw"),
        _ => class
            .name()
            .split_once('_')
            .is_some_and(|(head, _)| head == family),
    }
}

/// Returns the classes that `name`, of a class or of a family, stands for; none if it is unknown.
pub fn named(name: &str) -> Vec<Class> {
    let family = FAMILIES.contains(&name);
    let wanted = |class: &Class| class.name() == name || family && in_family(*class, name);
    Class::all().filter(wanted).collect()
}

/// A marker that guest software executes to delimit a measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    Start,
    Stop,
}

/// `HINT #0x5a`: start of a measurement.
pub const HINT_START: u32 = 0x5a;
/// `HINT #0x5b`: end of a measurement.
pub const HINT_STOP: u32 = 0x5b;

/// Recognises the two marker hints.
///
/// Both are unallocated in "Hints", where CRm:op2 from 0x40 up executes as NOP: no compiler emits
/// them, Linux does not execute them, and they do nothing on hardware.
pub fn mark(insn: u32) -> Option<Mark> {
    const HINT: Encoding = encoding("1101010100 0 00 011 0010 mmmm ooo 11111");
    match (HINT.matches(insn), (insn >> 5) & 0x7f) {
        (true, HINT_START) => Some(Mark::Start),
        (true, HINT_STOP) => Some(Mark::Stop),
        _ => None,
    }
}

/// What matters for the order in which a memory model is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Completes the accesses before it: DSB, with any option. (SSBB and PSSBB share the encoding,
    /// and order less.)
    Complete,
    /// Writes ACTLR_EL1.
    SetActlr,
}

/// Recognises the instructions of [`Order`].
pub fn order(insn: u32) -> Option<Order> {
    const DSB: Encoding = encoding("1101010100 0 00 011 0011 mmmm 100 11111");
    const MSR_ACTLR_EL1: Encoding = encoding("1101010100 0 11 000 0001 0000 001 ttttt");

    if DSB.matches(insn) && !matches!((insn >> 8) & 0xf, 0 | 4) {
        Some(Order::Complete)
    } else if MSR_ACTLR_EL1.matches(insn) {
        Some(Order::SetActlr)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_accesses() {
        // dsb ish, dsb sy, dsb nshld; msr actlr_el1, x0; msr actlr_el1, xzr
        for insn in [0xd503_3b9f, 0xd503_3f9f, 0xd503_359f] {
            assert_eq!(order(insn), Some(Order::Complete));
        }
        for insn in [0xd518_1020, 0xd518_103f] {
            assert_eq!(order(insn), Some(Order::SetActlr));
        }
        // ssbb, pssbb, dmb ish, isb; mrs x0, actlr_el1; msr sctlr_el1, x0; msr actlr_el2, x0
        for insn in [
            0xd503_309f,
            0xd503_349f,
            0xd503_3bbf,
            0xd503_3fdf,
            0xd538_1020,
            0xd518_1000,
            0xd51c_1020,
        ] {
            assert_eq!(order(insn), None);
        }
    }

    /// Asserts that each opcode is in the class `name`, `-` standing for none.
    fn expect(name: &str, opcodes: &[u32]) {
        for &opcode in opcodes {
            let got = classify(opcode).map_or("-", Class::name);
            assert_eq!(got, name, "{opcode:#010x}");
        }
    }

    #[test]
    fn compare_and_swap_pair() {
        // casp x0, x1, x2, x3, [x4]; caspal w0, w1, w2, w3, [x4]
        expect("lse", &[0x4820_7c82, 0x0860_fc82]);
        // Odd Rs, odd Rt; ldxp, stxp (bit 31), ldxr (bit 21).
        expect(
            "-",
            &[
                0x4821_7c82,
                0x4820_7c83,
                0xc87f_0440,
                0xc820_0440,
                0xc85f_7c20,
            ],
        );
    }

    #[test]
    fn compare_and_swap() {
        // casb, cash, cas w, cas x, casal x
        expect(
            "lse",
            &[
                0x08a1_7c02,
                0x48a1_7c02,
                0x88a1_7c02,
                0xc8a1_7c02,
                0xc8e1_fc02,
            ],
        );
        // ldar, stlr, ldlar: bit 21 clear.
        expect("-", &[0xc8df_fc20, 0xc89f_fc20, 0xc8df_7c20]);
    }

    #[test]
    fn atomic_memory_operations() {
        for size in 0..4u32 {
            for acquire_release in 0..4u32 {
                let base = 0x3821_0040 | (size << 30) | (acquire_release << 22);
                for opc in 0..8u32 {
                    // LD<op>, ST<op>
                    expect("lse", &[base | (opc << 12), base | (opc << 12) | 31]);
                }
                // SWP
                expect("lse", &[base | 0x8000]);
            }
        }
    }

    #[test]
    fn atomic_memory_operations_that_are_not() {
        // ldaprb, ldaprh, ldapr w, ldapr x
        expect("-", &[0x38bf_c020, 0x78bf_c020, 0xb8bf_c020, 0xf8bf_c020]);
        // ld64b, st64b, st64bv, st64bv0
        expect("-", &[0xf83f_d020, 0xf83f_9020, 0xf820_b020, 0xf820_a020]);
        // ldr x0, [x1, x2] is one bit (10) away.
        expect("-", &[0xf862_6820]);
    }

    #[test]
    fn atomic_memory_operations_128_bit() {
        // ldclrp, ldsetpal, swppa x0, x1, [x2]
        expect("lse128", &[0x1921_1040, 0x19e1_3040, 0x19a1_8040]);
        // Unallocated opc.
        expect("-", &[0x1921_0040, 0x1921_2040, 0x1921_4040, 0x1921_c040]);
    }

    #[test]
    fn unprivileged_atomics() {
        // cast, casalt x0, x1, [x2]; caspt x0, x1, x2, x3, [x4]; caspalt
        expect(
            "lsui",
            &[0xc980_7c41, 0xc9c0_fc41, 0x4980_7c82, 0x49c0_fc82],
        );
        // swpt w; swptal x; ldtadd w; ldtclral x; ldtset w; sttsetl x
        expect(
            "lsui",
            &[
                0x1927_84bf,
                0x59e9_87ff,
                0x1927_04bf,
                0x59e9_17ff,
                0x1927_34bf,
            ],
        );
        expect("lsui", &[0x5960_345f]);
        // No LDTEOR: unallocated.
        expect("-", &[0x1927_24bf]);
    }

    #[test]
    fn unprivileged_exclusives_and_pairs() {
        // ldtxr, ldatxr, sttxr, stltxr
        expect(
            "lsui_ex",
            &[0xc95f_7fe9, 0xc95f_ffe9, 0x891f_7fe4, 0xc905_fce6],
        );
        // ldtp offset, post, pre; sttp q; ldtnp; sttnp q
        expect(
            "lsui_pair",
            &[0xe95f_f455, 0xe8df_f455, 0xe9df_f455, 0xed00_17e3],
        );
        expect("lsui_pair", &[0xe85f_f455, 0xec00_17e3]);
        // ldp x0, x1, [x2]; ldtr x0, [x1]; ldpsw x0, x1, [x2]
        expect("-", &[0xa940_0440, 0xf840_0820, 0x6940_0440]);
    }

    #[test]
    fn floating_point_atomics() {
        // ldfminnml h, s, d; ldbfminnm; ldfaddal d
        expect(
            "lsfe",
            &[
                0x7c60_7041,
                0xbc60_7041,
                0xfc60_7041,
                0x3c20_7041,
                0xfcf7_02af,
            ],
        );
        // stbfmaxnm, stbfadd, stfaddl
        expect("lsfe", &[0x3c20_e05f, 0x3c38_80ff, 0x7c78_80ff]);
        // opc 001, 010, 011; ST form with a destination, or with acquire; ldr q0, [x1, x2]
        expect(
            "-",
            &[
                0x7c60_1041,
                0x7c60_2041,
                0x7c60_3041,
                0x3c20_e041,
                0x3ca0_e05f,
            ],
        );
        expect("-", &[0x3ce2_6820]);
    }

    #[test]
    fn read_check_write() {
        // rcwclr, rcwsclral, rcwswp, rcwset
        expect("rcw", &[0x3820_9020, 0x78e0_9020, 0x3820_a020, 0x3820_b020]);
        // rcwcas, rcwscas, rcwcasp, rcwclrp, rcwswpp, rcwssetpal
        expect(
            "rcw",
            &[
                0x1920_0841,
                0x5920_0841,
                0x1920_0c82,
                0x1921_9040,
                0x1921_a040,
            ],
        );
        expect("rcw", &[0x59e1_b040]);
    }

    #[test]
    fn exception_generation_and_return() {
        expect("svc", &[0xd400_0001, 0xd41f_ffe1]);
        expect("hvc", &[0xd400_0002, 0xd41f_ffe2]);
        expect("smc", &[0xd400_0003, 0xd41f_ffe3]);
        expect("eret", &[0xd69f_03e0, 0xd69f_0bff, 0xd69f_0fff]);
        // brk #0, hlt #0, dcps1, ret, drps
        expect(
            "-",
            &[
                0xd420_0000,
                0xd440_0000,
                0xd4a0_0001,
                0xd65f_03c0,
                0xd6bf_03e0,
            ],
        );
    }

    #[test]
    fn system_instructions() {
        expect("ic_ialluis", &[0xd508_711f]);
        expect("ic_iallu", &[0xd508_751f]);
        expect("ic_ivau", &[0xd50b_7520, 0xd50b_753f]);
        expect("dc_zva", &[0xd50b_7420]);
        expect("dc_cvau", &[0xd50b_7b20]);
        expect("dc_civac", &[0xd50b_7e20]);
        // tlbi vmalle1is; tlbi vmalls12e1; tlbi alle3; tlbi vae1is, x0; tlbi vae1nxs
        expect(
            "tlbi",
            &[
                0xd508_831f,
                0xd50c_87df,
                0xd50e_871f,
                0xd508_8320,
                0xd508_9720,
            ],
        );
        // tlbip vae1, x0, x1
        expect("tlbi", &[0xd548_8720]);
        // at s1e1r; cfp rctx; sysl #3, c7, c5, #1
        expect("-", &[0xd508_7800, 0xd50b_7380, 0xd52b_7520]);
    }

    #[test]
    fn hints() {
        assert_eq!(mark(0xd503_2b5f), Some(Mark::Start));
        assert_eq!(mark(0xd503_2b7f), Some(Mark::Stop));
        let others = (0..0x80).filter(|imm| !matches!(*imm, HINT_START | HINT_STOP));
        for opcode in others.map(|imm| 0xd503_201f | (imm << 5)) {
            assert_eq!(mark(opcode), None, "{opcode:#010x}");
            let class = match opcode {
                0xd503_203f => "yield",
                0xd503_223f => "psb",
                _ => "-",
            };
            expect(class, &[opcode]);
        }
    }

    #[test]
    fn classes_are_disjoint() {
        let all: Vec<_> = GROUPS.iter().flat_map(|group| group.encodings).collect();
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                let both = a.mask & b.mask;
                assert_ne!(
                    a.value & both,
                    b.value & both,
                    "{:#010x} {:#010x}",
                    a.value,
                    b.value
                );
            }
        }
    }

    #[test]
    fn names() {
        let names: std::collections::HashSet<_> = Class::all().map(Class::name).collect();
        assert_eq!(names.len(), Class::COUNT);
        assert_eq!(named("ic").len(), 3);
        assert_eq!(named("atomics").len(), 5);
        assert_eq!(named("lsui").len(), 1);
        assert!(named("tlb").is_empty());
    }
}
