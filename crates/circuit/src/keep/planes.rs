//! A chunk's rows as byte planes, the form in which they are stored.
//!
//! Rows of one table look alike byte for byte: lengths, null bits, the upper bytes of counts. So rows of one width stand
//! together in groups of [`GROUP_ROWS`], and of a group first the first byte of each row, then the second of each, and so
//! on. What is alike then lies together, which is compressed in a third of the time, and to less.
//!
//! ```text
//! format 2: u16
//! for each group: rows u32, width u32, then width planes of `rows` bytes each
//! ```
//!
//! The rows of a chunk have no order: they come back by width.

use std::borrow::Cow;

use super::keeper::rows_of;
use super::wire::{Damage, Reader};

/// The format of chunks that are stored in planes; that of others is [`super::FORMAT`].
pub(super) const FORMAT: u16 = 2;

/// The most rows of a group: its planes stay in the first cache while they are filled.
const GROUP_ROWS: usize = 256;

/// The most bytes of rows that are woven together: chunks of longer ones stay as they are.
const WIDTH_MAX: usize = 1 << 10;

/// The fewest rows of a width, on average, that are worth it.
const SAME_ROWS_MIN: usize = 8;

/// The rows of a chunk as a save gave it, in planes; as they are where that is not worth it.
pub(super) fn weave(chunk: &[u8]) -> Cow<'_, [u8]> {
    let rows = rows_of(chunk).unwrap_or_default();
    match by_width(&rows) {
        Some(rows) => Cow::Owned(planes(&rows, chunk.len())),
        None => Cow::Borrowed(chunk),
    }
}

/// The rows in the order of their widths; none when some are too long, or too few are alike.
fn by_width<'a>(rows: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
    // For each width where the next row of it goes: first the number of rows that are narrower.
    let mut places = vec![0_usize; WIDTH_MAX + 2];
    for row in rows {
        *places.get_mut(row.len() + 1)? += 1;
    }
    let widths = places.iter().filter(|count| **count > 0).count();
    if rows.len() < widths * SAME_ROWS_MIN || rows.is_empty() {
        return None;
    }
    for width in 1..places.len() {
        places[width] += places[width - 1];
    }
    let mut sorted = vec![&[][..]; rows.len()];
    for row in rows {
        let place = &mut places[row.len()];
        sorted[*place] = row;
        *place += 1;
    }
    Some(sorted)
}

/// The rows of a stored chunk as a save gave them; as it is when it is not in planes.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn unweave(chunk: &[u8]) -> Result<Cow<'_, [u8]>, Damage> {
    let mut reader = Reader::new(chunk);
    if reader.u16()? != FORMAT {
        return Ok(Cow::Borrowed(chunk));
    }
    let mut out = Vec::with_capacity(chunk.len() + chunk.len() / 8);
    out.extend_from_slice(&super::FORMAT.to_le_bytes());
    while !reader.is_empty() {
        let (rows, width) = (reader.u32()? as usize, reader.u32()? as usize);
        if rows == 0 || rows > GROUP_ROWS || width > WIDTH_MAX {
            return Err(Damage(format!("a group of {rows} rows of {width} bytes")));
        }
        rows_from(reader.take(rows * width)?, rows, width, &mut out);
    }
    Ok(Cow::Owned(out))
}

/// Rows in the order of their widths, in groups of planes.
fn planes(rows: &[&[u8]], bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    for same in rows.chunk_by(|one, other| one.len() == other.len()) {
        for group in same.chunks(GROUP_ROWS) {
            let width = group[0].len();
            out.extend_from_slice(&(group.len() as u32).to_le_bytes());
            out.extend_from_slice(&(width as u32).to_le_bytes());
            let start = out.len();
            out.resize(start + group.len() * width, 0);
            fill(group, width, &mut out[start..]);
        }
    }
    out
}

/// Fills the planes of rows of one width: eight rows and eight columns at a time.
fn fill(rows: &[&[u8]], width: usize, planes: &mut [u8]) {
    let count = rows.len();
    let (eights, rest) = rows.as_chunks::<8>();
    for (number, eight) in eights.iter().enumerate() {
        let at = number * 8;
        for column in columns(width) {
            let words = eight.map(|row| word(&row[column..]));
            for (plane, word) in transposed(words).into_iter().enumerate() {
                let from = (column + plane) * count + at;
                planes[from..from + 8].copy_from_slice(&word.to_le_bytes());
            }
        }
        for column in narrow(width) {
            eight.iter().enumerate().for_each(|(row, bytes)| planes[column * count + at + row] = bytes[column]);
        }
    }
    for (row, bytes) in rest.iter().enumerate() {
        let at = count - rest.len() + row;
        bytes.iter().enumerate().for_each(|(column, byte)| planes[column * count + at] = *byte);
    }
}

/// Appends the rows of planes, each with its length before it.
fn rows_from(planes: &[u8], rows: usize, width: usize, out: &mut Vec<u8>) {
    let (start, stride) = (out.len(), width + 4);
    out.resize(start + rows * stride, 0);
    let written = &mut out[start..];
    for row in written.chunks_exact_mut(stride) {
        row[..4].copy_from_slice(&(width as u32).to_le_bytes());
    }
    for at in (0..rows / 8 * 8).step_by(8) {
        for column in columns(width) {
            let words: [u64; 8] = std::array::from_fn(|plane| word(&planes[(column + plane) * rows + at..]));
            for (row, word) in transposed(words).into_iter().enumerate() {
                let to = (at + row) * stride + 4 + column;
                written[to..to + 8].copy_from_slice(&word.to_le_bytes());
            }
        }
        for (row, column) in (0..8).flat_map(|row| narrow(width).map(move |column| (row, column))) {
            written[(at + row) * stride + 4 + column] = planes[column * rows + at + row];
        }
    }
    for (row, column) in (rows / 8 * 8..rows).flat_map(|row| (0..width).map(move |column| (row, column))) {
        written[row * stride + 4 + column] = planes[column * rows + row];
    }
}

/// Where eight columns begin so that all of `width` are covered; the last eight may overlap others.
fn columns(width: usize) -> impl Iterator<Item = usize> {
    let last = (width >= 8 && !width.is_multiple_of(8)).then(|| width - 8);
    (0..width / 8).map(|eight| eight * 8).chain(last)
}

/// The columns of rows that are too narrow for eight at a time.
fn narrow(width: usize) -> std::ops::Range<usize> {
    if width < 8 { 0..width } else { 0..0 }
}

/// The first eight bytes.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Byte n of word m becomes byte m of word n: blocks of four, two and one bytes are exchanged across the diagonal.
#[inline]
fn transposed(mut words: [u64; 8]) -> [u64; 8] {
    for (apart, mask) in [(4, 0x0000_0000_FFFF_FFFF), (2, 0x0000_FFFF_0000_FFFF), (1, 0x00FF_00FF_00FF_00FF_u64)] {
        for upper in (0..8).filter(|word| word & apart == 0) {
            let (one, other, shift) = (words[upper], words[upper + apart], 8 * apart);
            words[upper] = one & mask | (other & mask) << shift;
            words[upper + apart] = one >> shift & mask | other & !mask;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use tidemill_base::rand::Rng;

    use super::*;
    use crate::keep::wire::put_block;

    fn chunk(rows: &[Vec<u8>]) -> Vec<u8> {
        let mut chunk = crate::keep::FORMAT.to_le_bytes().to_vec();
        rows.iter().for_each(|row| put_block(&mut chunk, row));
        chunk
    }

    /// Rows of these widths and of any bytes.
    fn rows(widths: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
        let mut rng = Rng::seeded(3);
        widths.into_iter().map(|width| (0..width).map(|_| rng.next_u64() as u8).collect()).collect()
    }

    fn check(mut expected: Vec<Vec<u8>>) {
        let chunk = chunk(&expected);
        let woven = weave(&chunk);
        let back = unweave(&woven).expect("it is whole");
        if matches!(woven, Cow::Owned(_)) {
            expected.sort_by_key(Vec::len);
        }
        assert_eq!(rows_of(&back).expect("it is whole"), expected);
    }

    #[test]
    fn rows_of_any_width_and_number_come_back() {
        for width in (0..20).chain([40, 41, 255, WIDTH_MAX, WIDTH_MAX + 1]) {
            for count in [0, 1, 7, 8, 9, 47, GROUP_ROWS, GROUP_ROWS + 13] {
                check(rows(std::iter::repeat_n(width, count)));
            }
        }
        check(rows((0..1_000).map(|row| row * 7 % 23)));
    }

    #[test]
    fn rows_that_are_not_in_planes_are_taken_as_they_are() {
        let chunk = chunk(&rows([3, 5]));
        assert_eq!(unweave(&chunk).expect("it is whole"), chunk);
        for few in [rows(0..500), rows([3; 7]), rows([WIDTH_MAX + 1; 50])] {
            assert!(matches!(weave(&self::chunk(&few)), Cow::Borrowed(_)));
        }
        assert!(matches!(weave(&self::chunk(&rows([3; 8]))), Cow::Owned(_)));
    }

    #[test]
    fn damage_is_an_error_or_other_rows() {
        let chunk = chunk(&rows([9; 40]));
        let woven = weave(&chunk);
        for length in 2..woven.len() {
            let cut = unweave(&woven[..length]);
            assert!(cut.is_err() || length == 2, "cut at {length}");
        }
        for bit in 16..80 {
            let mut flipped = woven.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(unweave(&flipped).is_err(), "bit {bit}");
        }
    }
}
