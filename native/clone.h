/* clone3 with a shared address space: the child runs enter(argument) on its own stack and never returns. */
#ifndef PYRUNTIME_CLONE_H
#define PYRUNTIME_CLONE_H

#include <linux/sched.h>
#include <sys/syscall.h>

/* The pid, or -errno. The C library has no wrapper for clone3, and its clone() cannot pass flags above 32 bits. */
static inline long clone_and_enter(struct clone_args *args, void (*enter)(void *), void *argument)
{
    long result;
#if defined(__x86_64__)
    register void (*function)(void *) __asm__("r12") = enter;
    register void *operand __asm__("r13") = argument;
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "mov %%r13, %%rdi\n\t"
                     "call *%%r12\n\t"
                     "hlt\n"
                     "1:"
                     : "=a"(result)
                     : "a"((long)SYS_clone3), "D"(args), "S"(sizeof *args), "r"(function), "r"(operand)
                     : "rcx", "r11", "memory", "cc");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = SYS_clone3;
    register void *x0 __asm__("x0") = args;
    register long x1 __asm__("x1") = sizeof *args;
    register void (*function)(void *) __asm__("x19") = enter;
    register void *operand __asm__("x20") = argument;
    __asm__ volatile("svc #0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x29, xzr\n\t"
                     "mov x0, x20\n\t"
                     "blr x19\n\t"
                     "brk #0\n"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(function), "r"(operand)
                     : "memory", "cc");
    result = (long)x0;
#else
#error "pyruntime is written for x86-64 and 64-bit Arm"
#endif
    return result;
}

#endif
