// As shares.c, with virtual functions, a template and a lambda in between.
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <time.h>

namespace shares {
volatile unsigned long sink;

template <unsigned long N> inline void spin() {
    unsigned long x = 1;
    for (unsigned long i = 0; i < N; i++) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; }
    sink = x;
}

struct Part {
    virtual ~Part() = default;
    virtual void work(int depth) = 0;
};
struct Alpha : Part {
    __attribute__((noinline)) void alpha(const std::function<void()> &job) { job(); sink = sink + 1; }
    void work(int) override { alpha([] { spin<5000000>(); }); }
};
struct Beta : Part {
    template <typename T> __attribute__((noinline)) void beta(T) { spin<3000000>(); }
    void work(int) override { beta(1.5); sink = sink + 1; }
};
struct Gamma : Part {
    __attribute__((noinline)) void gamma(int depth) {
        if (depth == 0) return spin<2000000>();
        gamma(depth - 1);
        sink = sink + 1;
    }
    void work(int depth) override { gamma(depth); }
};

double used() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
} // namespace shares

int main(int count, char **words) {
    std::unique_ptr<shares::Part> parts[] = {std::make_unique<shares::Alpha>(), std::make_unique<shares::Beta>(),
                                             std::make_unique<shares::Gamma>()};
    double took[3] = {}, now = shares::used(), end = now + (count > 1 ? atof(words[1]) : 3);
    while (now < end)
        for (int which = 0; which < 3; which++) {
            double at = now;
            parts[which]->work(20);
            now = shares::used();
            took[which] += now - at;
        }
    printf("alpha %f beta %f gamma %f\n", took[0], took[1], took[2]);
}
