//! The BT.601 matrix in swscale's numbers, with its three ways of rounding.

/// BT.601 inverse matrix times 65536 as swscale keeps it: V to R, U to B, U to G, V to G.
const V_TO_R: i32 = 104_597;
const U_TO_B: i32 = 132_201;
const U_TO_G: i32 = -25_675;
const V_TO_G: i32 = -53_279;

/// Matrix in 13 fractional bits, for the 16-bit multiply-high of paired chroma and for full chroma.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Matrix {
    /// Luma that is black: 16 limited, 0 full.
    pub(super) black: i16,
    pub(super) luma: i16,
    pub(super) v_to_r: i16,
    pub(super) u_to_g: i16,
    pub(super) v_to_g: i16,
    pub(super) u_to_b: i16,
}

/// Limited range (16 to 235), the default.
const LIMITED: Matrix = Matrix {
    black: 16,
    luma: 9539,
    v_to_r: 13075,
    u_to_g: -3209,
    v_to_g: -6660,
    u_to_b: 16525,
};

/// Full range (0 to 255).
const FULL: Matrix = Matrix {
    black: 0,
    luma: 8192,
    v_to_r: 11485,
    u_to_g: -2819,
    v_to_g: -5850,
    u_to_b: 14516,
};

impl Matrix {
    /// The matrix for a range.
    pub(super) fn of(full_range: bool) -> &'static Self {
        if full_range { &FULL } else { &LIMITED }
    }
}

/// One chroma column of [`PortableMatrix`]: what a chroma sample adds, counted in luma steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shift {
    factor: i32,
    offset: i32,
}

impl Shift {
    /// `coefficient` is 16.16 levels per chroma step; `luma` 16.16 levels per luma step.
    const fn new(coefficient: i32, luma: i32) -> Self {
        // Rust's division truncates like C's, which matters for the negative green coefficients.
        #[allow(
            clippy::cast_possible_truncation,
            reason = "at most 132201 * 65536 / 65536"
        )]
        let factor = (((coefficient as i64) * 65536 + 32768) / luma as i64) as i32;
        Self {
            factor,
            offset: -(factor >> 9),
        }
    }

    /// Luma steps for `chroma`, which is first clamped to 0..=255.
    #[inline(always)]
    pub(super) fn steps(self, chroma: i32) -> i32 {
        self.offset + ((chroma.clamp(0, 255) * self.factor) >> 16)
    }
}

/// Matrix of the portable code, which swscale uses for the last two rows of an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortableMatrix {
    luma: i32,
    base: i32,
    pub(super) v_to_r: Shift,
    pub(super) u_to_g: Shift,
    pub(super) v_to_g: Shift,
    pub(super) u_to_b: Shift,
}

impl PortableMatrix {
    const fn new(full_range: bool) -> Self {
        // Full range scales chroma by 224/255 instead of luma by 255/219.
        let (luma, black, numerator, denominator) = if full_range {
            (65536, 0, 224, 255)
        } else {
            (65536 * 255 / 219, 16 << 16, 1, 1)
        };
        // swscale's luma table starts 384 steps below black and is entered at 326 (limited) or 384 (full).
        let entry = if full_range { 384 } else { 326 };
        Self {
            luma,
            base: entry * luma - (384 << 16) - black + 0x8000,
            v_to_r: Shift::new(V_TO_R * numerator / denominator, luma),
            u_to_g: Shift::new(U_TO_G * numerator / denominator, luma),
            v_to_g: Shift::new(V_TO_G * numerator / denominator, luma),
            u_to_b: Shift::new(U_TO_B * numerator / denominator, luma),
        }
    }

    /// The matrix for a range.
    pub(super) fn of(full_range: bool) -> &'static Self {
        const LIMITED: PortableMatrix = PortableMatrix::new(false);
        const FULL: PortableMatrix = PortableMatrix::new(true);
        if full_range { &FULL } else { &LIMITED }
    }

    /// Level 0..=255 of `steps`, a luma value plus its chroma steps.
    #[inline(always)]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=255"
    )]
    pub(super) fn level(&self, steps: i32) -> u8 {
        ((self.base + steps * self.luma) >> 16).clamp(0, 255) as u8
    }
}
