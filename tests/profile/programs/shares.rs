// As shares.c, through a trait object and a closure.
use std::hint::black_box;

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

fn used() -> f64 {
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    unsafe { clock_gettime(3, &mut time) };
    time.seconds as f64 + time.nanoseconds as f64 / 1e9
}

fn spin(n: u64) -> u64 {
    (0..n).fold(1, |mut x: u64, _| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^ x << 17
    })
}

trait Part {
    fn work(&self);
}
struct Alpha;
struct Beta;
struct Gamma;

impl Part for Alpha {
    #[inline(never)]
    fn work(&self) {
        alpha(|| spin(black_box(5_000_000)));
    }
}
impl Part for Beta {
    #[inline(never)]
    fn work(&self) {
        beta();
    }
}
impl Part for Gamma {
    fn work(&self) {
        black_box(gamma(20));
    }
}

#[inline(never)]
fn alpha(job: impl Fn() -> u64) {
    black_box(job());
}

#[inline(never)]
fn beta() {
    black_box(spin(black_box(3_000_000)));
}

#[inline(never)]
fn gamma(depth: u32) -> u64 {
    if depth == 0 { spin(black_box(2_000_000)) } else { black_box(gamma(depth - 1)) + 1 }
}

fn main() {
    let seconds: f64 = std::env::args().nth(1).map_or(3.0, |word| word.parse().expect("a number"));
    let parts: [Box<dyn Part>; 3] = [Box::new(Alpha), Box::new(Beta), Box::new(Gamma)];
    let mut took = [0.0; 3];
    let mut now = used();
    let end = now + seconds;
    while now < end {
        for (part, took) in parts.iter().zip(&mut took) {
            let at = now;
            part.work();
            now = used();
            *took += now - at;
        }
    }
    println!("alpha {} beta {} gamma {}", took[0], took[1], took[2]);
}
