//! What an ELF file for 64-bit little-endian machines requires of the system. The layouts are those of elf(5).

use anyhow::{Context as _, Result, ensure};

const INTERPRETER: u32 = 3;
const DYNAMIC: u32 = 2;
const NEEDED: u64 = 1;
const SYMBOLS: u32 = 2;

/// Properties of such a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elf {
    /// The machine: 62 is `x86_64`, 183 is `aarch64`.
    pub machine: u16,
    /// Whether a dynamic linker starts it.
    pub has_interpreter: bool,
    /// How many shared libraries it needs.
    pub libraries: usize,
    /// Whether it has a symbol table, which `strip` removes.
    pub has_symbols: bool,
    /// Whether it is loaded at a random address.
    pub position_independent: bool,
}

/// Reads the headers.
///
/// # Errors
///
/// When it is not such a file, or is truncated.
pub fn read(file: &[u8]) -> Result<Elf> {
    ensure!(file.starts_with(b"\x7fELF\x02\x01"), "not a 64-bit little-endian ELF file");
    let mut elf = Elf {
        machine: u16::try_from(number(file, 18, 2)?)?,
        has_interpreter: false,
        libraries: 0,
        has_symbols: false,
        position_independent: number(file, 16, 2)? == 3,
    };
    for header in table(file, 32, 54)? {
        match u32::try_from(number(header, 0, 4)?)? {
            INTERPRETER => elf.has_interpreter = true,
            DYNAMIC => elf.libraries += needed(slice(file, number(header, 8, 8)?, number(header, 32, 8)?)?)?,
            _ => {}
        }
    }
    for header in table(file, 40, 58)? {
        elf.has_symbols |= u32::try_from(number(header, 4, 4)?)? == SYMBOLS;
    }
    Ok(elf)
}

/// The entries of a table. The file header has the table's offset at one place, and the entry size and count at another.
fn table(file: &[u8], offset_at: u64, size_at: u64) -> Result<Vec<&[u8]>> {
    let (offset, size, count) = (number(file, offset_at, 8)?, number(file, size_at, 2)?, number(file, size_at + 2, 2)?);
    (0..count).map(|index| slice(file, offset + index * size, size)).collect()
}

fn needed(dynamic: &[u8]) -> Result<usize> {
    let mut found = 0;
    for entry in dynamic.chunks_exact(16) {
        found += usize::from(number(entry, 0, 8)? == NEEDED);
    }
    Ok(found)
}

fn slice(file: &[u8], offset: u64, size: u64) -> Result<&[u8]> {
    let start = usize::try_from(offset)?;
    file.get(start..).and_then(|rest| rest.get(..usize::try_from(size).ok()?)).context("the file is truncated")
}

fn number(bytes: &[u8], offset: u64, size: u64) -> Result<u64> {
    let mut number = [0; 8];
    let found = slice(bytes, offset, size)?;
    number.get_mut(..found.len()).context("a number of more than 8 bytes")?.copy_from_slice(found);
    Ok(u64::from_le_bytes(number))
}
