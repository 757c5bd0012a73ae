/* Passing on the descriptor of a filter that somebody is notified of. */
#ifndef PYRUNTIME_LISTENER_H
#define PYRUNTIME_LISTENER_H

#define HANDOVER_STACK 16384

struct init;

struct handover {
    int wire;
    int faults;             /* a userfaultfd */
    int listener;
    char *page;
    char stack[HANDOVER_STACK] __attribute__((aligned(16)));
};

/* Before the filter is installed; the struct has to stay until hand_over has returned. */
int prepare_handover(struct init *init, struct handover *handover);

/* Returns when the caller has passed the listener on. No system call is made. */
void hand_over(struct handover *handover, int listener);

#endif
