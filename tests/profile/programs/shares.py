"""As shares.c, in Python."""

import sys
import time


def spin(n):
    x = 1
    for _ in range(n):
        x = (x * 1103515245 + 12345) & 0x7FFFFFFF
    return x


def alpha():
    spin(50000)


def beta():
    spin(30000)


def gamma(depth):
    return spin(20000) if depth == 0 else gamma(depth - 1) + 1


def main():
    took = [0.0, 0.0, 0.0]
    now = time.thread_time()
    end = now + float(sys.argv[1] if len(sys.argv) > 1 else 3)
    while now < end:
        for which, part in enumerate((alpha, beta, lambda: gamma(20))):
            at = now
            part()
            now = time.thread_time()
            took[which] += now - at
    print("alpha %f beta %f gamma %f" % tuple(took))


main()
