//! Pieces: what might be too large to have in memory at once is read, and made, a piece at a time.
//!
//! A tenant's prompts and outputs have megabytes each, and a thousand of them may be due at one instant.

/// Most bytes of a piece.
pub(crate) const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Cuts into pieces of at most [`BYTES_MAX`], in order. What has more alone is a piece of its own.
pub(crate) fn pieces<T>(sized: impl IntoIterator<Item = (T, usize)>) -> Vec<Vec<T>> {
    let mut pieces: Vec<Vec<T>> = Vec::new();
    let mut room = 0;
    for (one, bytes) in sized {
        match pieces.last_mut() {
            Some(piece) if bytes <= room => piece.push(one),
            _ => {
                pieces.push(vec![one]);
                room = BYTES_MAX;
            }
        }
        room = room.saturating_sub(bytes);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_has_no_more_than_fits_unless_it_is_one() {
        let half = BYTES_MAX / 2;
        assert_eq!(pieces::<u8>([]), Vec::<Vec<u8>>::new());
        assert_eq!(pieces([(1, half), (2, half), (3, 0), (4, 1)]), [vec![1, 2, 3], vec![4]]);
        assert_eq!(pieces([(1, 3 * half), (2, 0), (3, half)]), [vec![1, 2], vec![3]]);
        assert_eq!(pieces([(1, 0), (2, 3 * half), (3, 3 * half)]), [[1], [2], [3]]);
    }
}
