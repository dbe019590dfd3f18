/* Half, three tenths and two tenths of the CPU time in alpha, beta and gamma, the last below a recursion of twenty; says
 * at its end how much CPU time each really took, by the thread's own clock.
 * usage: shares SECONDS [THREADS | ALONE]: ALONE is alpha, beta or gamma, once, for short processes. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static volatile unsigned long sink;
#define SPIN(n)                                                                                                            \
    unsigned long x = 1;                                                                                                   \
    for (unsigned long i = 0; i < (n); i++) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; }                                   \
    sink = x;

__attribute__((noinline)) void alpha(void) { SPIN(5000000UL) }
__attribute__((noinline)) void beta(void) { SPIN(3000000UL) }
__attribute__((noinline)) unsigned long gamma_at(int depth) {
    if (depth == 0) { SPIN(2000000UL) return x; }
    return gamma_at(depth - 1) + sink;
}

static double used(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static double took[3], seconds;

static void *work(void *name) {
    double own[3] = {0}, at = used(CLOCK_THREAD_CPUTIME_ID), end = at + seconds, now = at;
    if (name) pthread_setname_np(pthread_self(), name);
    while (now < end) {
        for (int which = 0; which < 3; which++, at = now) {
            if (which == 0) alpha();
            if (which == 1) beta();
            if (which == 2) gamma_at(20);
            now = used(CLOCK_THREAD_CPUTIME_ID);
            own[which] += now - at;
        }
    }
    pthread_mutex_lock(&lock);
    for (int which = 0; which < 3; which++) took[which] += own[which];
    pthread_mutex_unlock(&lock);
    return 0;
}

int main(int count, char **words) {
    const char *more = count > 2 ? words[2] : "1";
    seconds = count > 1 ? atof(words[1]) : 3;
    if (!strcmp(more, "alpha")) alpha();
    else if (!strcmp(more, "beta")) beta();
    else if (!strcmp(more, "gamma")) gamma_at(20);
    else if (atoi(more) < 2) work(0);
    else {
        int threads = atoi(more) > 8 ? 8 : atoi(more);
        pthread_t all[8];
        static char names[8][16];
        for (int i = 0; i < threads; i++) {
            snprintf(names[i], sizeof names[i], "worker-%d", i);
            pthread_create(&all[i], 0, work, names[i]);
        }
        for (int i = 0; i < threads; i++) pthread_join(all[i], 0);
    }
    if (took[0] > 0) printf("alpha %f beta %f gamma %f\n", took[0], took[1], took[2]);
    else fprintf(stderr, "%s %f\n", more, used(CLOCK_PROCESS_CPUTIME_ID));
    return 0;
}
