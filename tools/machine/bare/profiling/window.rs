// SPDX-License-Identifier: GPL-2.0

//! A window of pages at [`BEYOND`] onto the memory of the buffer, in stage 1 or in stage 2.

use super::*;

// Tables of level 2 and 3 for the window, of each stage.
static mut STAGE1_LEVEL2: Table = Table::new();
static mut STAGE1_LEVEL3: Table = Table::new();
static mut STAGE2_LEVEL2: Table = Table::new();
static mut STAGE2_LEVEL3: Table = Table::new();

/// Writes the first entries of a window's pages, after entry 2 of the table of level 1 and entry 0
/// of the table of level 2.
fn map(tables: [*mut Table; 3], pages: &[u64]) {
    // SAFETY: The tables belong to this window. What was cached of them is invalidated below.
    unsafe {
        (0..PAGES as usize).for_each(|n| table::map(tables[2], n, 0));
        table::map(tables[1], 0, tables[2] as u64 | table::NEXT);
        table::map(tables[0], 2, tables[1] as u64 | table::NEXT);
    }
    for (n, &page) in pages.iter().enumerate() {
        // SAFETY: As above.
        unsafe { table::map(tables[2], n, page) };
    }
    forget();
}

/// Makes a window in stage 1 of EL1, with these descriptors.
pub(super) fn map_stage1(pages: &[u64]) {
    let tables = [
        addr_of_mut!(STAGE1),
        addr_of_mut!(STAGE1_LEVEL2),
        addr_of_mut!(STAGE1_LEVEL3),
    ];
    map(tables, pages);
}

/// Makes a window in stage 2, with these descriptors.
pub(super) fn map_stage2(pages: &[u64]) {
    let tables = [
        addr_of_mut!(STAGE2),
        addr_of_mut!(STAGE2_LEVEL2),
        addr_of_mut!(STAGE2_LEVEL3),
    ];
    map(tables, pages);
}

/// Returns the table of level 3 of the window in stage 1 or 2.
fn last_level(stage: usize) -> *mut Table {
    match stage {
        1 => addr_of_mut!(STAGE1_LEVEL3),
        _ => addr_of_mut!(STAGE2_LEVEL3),
    }
}

/// Writes the descriptor of the first page of the window in a stage, and invalidates nothing.
pub(super) fn put(stage: usize, descriptor: u64) {
    // SAFETY: The table belongs to the window. Tests check what is cached of it.
    unsafe {
        table::map(last_level(stage), 0, descriptor);
        asm!("dsb sy", "isb");
    }
}

/// Returns the descriptor of the first page of the window in a stage.
pub(super) fn get(stage: usize) -> u64 {
    // SAFETY: The table belongs to the window.
    unsafe { table::entry(last_level(stage), 0) }
}

/// Returns the descriptor of stage 1 for page `n` of the buffer.
pub(super) fn page(n: u64) -> u64 {
    (buffer() + n * PAGE) | table::NORMAL | table::PAGE
}

/// Returns the descriptor of stage 2 for page `n` of the buffer.
pub(super) fn page_of_stage2(n: u64) -> u64 {
    (buffer() + n * PAGE) | table::S2_NORMAL | table::S2_READ_WRITE | table::PAGE
}
