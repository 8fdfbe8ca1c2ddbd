//! The turn that makes the picture upright, from the matrices of the track and of the movie.

use super::boxes::be32;

/// Three rows of three cells: two of 16.16 and one of 2.30 fixed point.
type Matrix = [[i32; 3]; 3];

/// Clockwise quarter turns, 0..=3, of a track header's matrix times the movie header's, as FFmpeg multiplies them.
/// Other angles count as none, as for OpenCV; so does a missing matrix.
pub(super) fn quarter_turns(tkhd: &[u8], mvhd: &[u8]) -> u8 {
    let wide = |header: &[u8]| header.first() == Some(&1);
    let track = matrix(tkhd, if wide(tkhd) { 52 } else { 40 });
    let movie = matrix(mvhd, if wide(mvhd) { 48 } else { 36 });
    let (Some(track), Some(movie)) = (track, movie) else {
        return 0;
    };
    let product = multiply(&track, &movie);
    let cell = |row: usize, column: usize| f64::from(product[row][column]);
    let (a, b, c, d) = (cell(0, 0), cell(0, 1), cell(1, 0), cell(1, 1));
    // Not `hypot`: it needs glibc 2.35.
    let length = |x: f64, y: f64| (x * x + y * y).sqrt();
    let (scale_x, scale_y) = (length(a, c), length(b, d));
    if scale_x == 0.0 || scale_y == 0.0 {
        return 0;
    }
    let degrees = (b / scale_y).atan2(a / scale_x).to_degrees();
    match degrees.round_ties_even().rem_euclid(360.0) {
        90.0 => 1,
        180.0 => 2,
        270.0 => 3,
        _ => 0,
    }
}

fn matrix(header: &[u8], at: usize) -> Option<Matrix> {
    let mut out = Matrix::default();
    for (index, cell) in out.as_flattened_mut().iter_mut().enumerate() {
        *cell = be32(header, at + 4 * index)?.cast_signed();
    }
    Some(out)
}

/// Each product is cut to fixed point before it is added.
#[expect(
    clippy::cast_possible_truncation,
    reason = "FFmpeg's sums wrap at 32 bits"
)]
fn multiply(track: &Matrix, movie: &Matrix) -> Matrix {
    let mut out = Matrix::default();
    for (row, target) in track.iter().zip(&mut out) {
        for (column, sum) in target.iter_mut().enumerate() {
            for ((&cell, other), shift) in row.iter().zip(movie).zip([16, 16, 30]) {
                let product = (i64::from(cell) * i64::from(other[column])) >> shift;
                *sum = sum.wrapping_add(product as i32);
            }
        }
    }
    out
}
