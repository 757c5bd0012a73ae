/* System calls without the C library, whose errno belongs to the thread that the clone's child shares its memory with. */
#ifndef PYRUNTIME_RAW_H
#define PYRUNTIME_RAW_H

#include <sys/syscall.h>

/* The result, or -errno. */
static inline long raw_call(long number, long first, long second, long third, long fourth, long fifth)
{
    long result;
#if defined(__x86_64__)
    register long r10 __asm__("r10") = fourth;
    register long r8 __asm__("r8") = fifth;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(first), "S"(second), "d"(third), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory", "cc");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = first;
    register long x1 __asm__("x1") = second;
    register long x2 __asm__("x2") = third;
    register long x3 __asm__("x3") = fourth;
    register long x4 __asm__("x4") = fifth;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory", "cc");
    result = x0;
#else
#error "pyruntime is written for x86-64 and 64-bit Arm"
#endif
    return result;
}

#endif
