// As shares.c, on goroutines that hand on to each other.
package main

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

var sink uint64

func spin(n int) uint64 {
	x := uint64(1)
	for i := 0; i < n; i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

//go:noinline
func alpha() { sink = spin(5000000) }

//go:noinline
func beta() { sink = spin(3000000) }

//go:noinline
func gamma(depth int) uint64 {
	if depth == 0 {
		return spin(2000000)
	}
	return gamma(depth-1) + 1
}

func used() float64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func main() {
	seconds := 3.0
	if len(os.Args) > 1 {
		seconds, _ = strconv.ParseFloat(os.Args[1], 64)
	}
	var took [3]float64
	parts := []func(){alpha, beta, func() { sink = gamma(20) }}
	done := make(chan bool)
	now := used()
	for end := now + seconds; now < end; {
		for which, part := range parts {
			at := now
			go func() { part(); done <- true }()
			<-done
			now = used()
			took[which] += now - at
		}
	}
	fmt.Printf("alpha %f beta %f gamma %f\n", took[0], took[1], took[2])
}
