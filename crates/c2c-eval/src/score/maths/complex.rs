//! Complex numbers, as far as formulas need them.

/// A complex number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Complex {
    pub(super) re: f64,
    pub(super) im: f64,
}

impl Complex {
    pub(super) fn real(re: f64) -> Self {
        Self { re, im: 0.0 }
    }

    /// A number that belongs to a name, between 0.3 and 1.7 in both parts, another at each point (FNV-1a of both).
    pub(super) fn of_name(name: &str, point: u64) -> Self {
        let hash = |salt: u64| {
            let start = 0xcbf2_9ce4_8422_2325 ^ point.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt;
            let hash = name.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
            let mixed = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
            0.3 + 1.4 * (mixed >> 11) as f64 / (1u64 << 53) as f64
        };
        Self { re: hash(1), im: hash(2) }
    }

    pub(super) fn add(self, other: Self) -> Self {
        Self { re: self.re + other.re, im: self.im + other.im }
    }

    pub(super) fn sub(self, other: Self) -> Self {
        Self { re: self.re - other.re, im: self.im - other.im }
    }

    pub(super) fn mul(self, other: Self) -> Self {
        Self { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }

    pub(super) fn div(self, other: Self) -> Self {
        let size = other.re * other.re + other.im * other.im;
        let scaled = self.mul(Self { re: other.re, im: -other.im });
        Self { re: scaled.re / size, im: scaled.im / size }
    }

    pub(super) fn abs(self) -> f64 {
        self.re.hypot(self.im)
    }

    fn exp(self) -> Self {
        let size = self.re.exp();
        Self { re: size * self.im.cos(), im: size * self.im.sin() }
    }

    fn ln(self) -> Self {
        Self { re: self.abs().ln(), im: self.im.atan2(self.re) }
    }

    /// The principal value. Whole powers are products, so that they keep their exactness.
    pub(super) fn pow(self, power: Self) -> Self {
        const LARGEST: f64 = 64.0;
        if power.im == 0.0 && power.re.fract() == 0.0 && power.re.abs() <= LARGEST {
            let product = (0..power.re.abs() as u32).fold(Self::real(1.0), |product, _| product.mul(self));
            return if power.re < 0.0 { Self::real(1.0).div(product) } else { product };
        }
        if self.abs() == 0.0 {
            return Self::real(0.0);
        }
        if self.im == 0.0 && power.im == 0.0 && self.re > 0.0 {
            return Self::real(self.re.powf(power.re));
        }
        self.ln().mul(power).exp()
    }

    /// A function by its name; not a number where there is none.
    pub(super) fn call(self, name: &str) -> Self {
        let one = Self::real(1.0);
        let i = Self { re: 0.0, im: 1.0 };
        let turned = |z: Self| i.mul(z).exp();
        let sin = || turned(self).sub(turned(Self::real(-1.0).mul(self))).div(Self { re: 0.0, im: 2.0 });
        let cos = || turned(self).add(turned(Self::real(-1.0).mul(self))).div(Self::real(2.0));
        let sinh = || self.exp().sub(Self::real(-1.0).mul(self).exp()).div(Self::real(2.0));
        let cosh = || self.exp().add(Self::real(-1.0).mul(self).exp()).div(Self::real(2.0));
        let half = Self::real(0.5);
        let arcsin = || {
            let root = one.sub(self.mul(self)).pow(half);
            Self::real(-1.0).mul(i).mul(i.mul(self).add(root).ln())
        };
        match name {
            "sqrt" => self.pow(half),
            "exp" => self.exp(),
            "ln" => self.ln(),
            // Without a base, a school's logarithm is that of ten; both sides are read the same way.
            "log" => self.ln().div(Self::real(std::f64::consts::LN_10)),
            "abs" => Self::real(self.abs()),
            "sin" => sin(),
            "cos" => cos(),
            "tan" => sin().div(cos()),
            "cot" => cos().div(sin()),
            "sec" => one.div(cos()),
            "csc" => one.div(sin()),
            "sinh" => sinh(),
            "cosh" => cosh(),
            "tanh" => sinh().div(cosh()),
            "arcsin" => arcsin(),
            "arccos" => Self::real(std::f64::consts::FRAC_PI_2).sub(arcsin()),
            "arctan" => {
                let (a, b) = (one.sub(i.mul(self)).ln(), one.add(i.mul(self)).ln());
                i.div(Self::real(2.0)).mul(a.sub(b))
            }
            "floor" => Self::real(self.re.floor()),
            "ceil" => Self::real(self.re.ceil()),
            "!" if self.im == 0.0 && self.re >= 0.0 && self.re.fract() == 0.0 && self.re < 171.0 => {
                Self::real((1..=self.re as u32).fold(1.0, |product, n| product * f64::from(n)))
            }
            // Of anything but whole numbers a factorial only equals itself: any function of its argument does.
            "!" => self.mul(self).add(Self::real(0.123_456_789)).exp(),
            _ => Self::real(f64::NAN),
        }
    }
}
