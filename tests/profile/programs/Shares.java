/** As shares.c, in short calls: HotSpot compiles what is called often. */
public final class Shares {
    static long sink;

    static long spin(long n) {
        long x = 1;
        for (long i = 0; i < n; i++) {
            x ^= x << 13;
            x ^= x >>> 7;
            x ^= x << 17;
        }
        return x;
    }

    static void alpha() {
        sink = spin(50_000);
    }

    static void beta() {
        sink = spin(30_000);
    }

    static long gamma(int depth) {
        return depth == 0 ? spin(20_000) : gamma(depth - 1) + 1;
    }

    static double used() {
        return java.lang.management.ManagementFactory.getThreadMXBean().getCurrentThreadCpuTime() / 1e9;
    }

    public static void main(String[] words) {
        double[] took = new double[3];
        double now = used();
        for (double end = now + (words.length > 0 ? Double.parseDouble(words[0]) : 3); now < end; ) {
            for (int which = 0; which < 3; which++) {
                double at = now;
                switch (which) {
                    case 0 -> alpha();
                    case 1 -> beta();
                    default -> sink = gamma(20);
                }
                now = used();
                took[which] += now - at;
            }
        }
        System.out.printf("alpha %f beta %f gamma %f%n", took[0], took[1], took[2]);
    }
}
