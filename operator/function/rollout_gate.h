/* rollout_gate.h - slows down what an upgrade of the operator changes in every Function's pods.
 *
 * Functions that are awake roll at most ROLLOUT_GATE_AWAKE at a time; those asleep get their new template at
 * ROLLOUT_GATE_ASLEEP_PER_SECOND, and are not woken for it. A rollout that does not end gives its place up after a while, so that five
 * broken Functions do not stop an upgrade.
 *
 * Threads: any. What it knows is lost with the process: after a restart up to twice as many roll for a moment.
 */
#ifndef CICADA_FUNCTION_ROLLOUT_GATE_H
#define CICADA_FUNCTION_ROLLOUT_GATE_H

#include <stdbool.h>
#include <stdint.h>

#define ROLLOUT_GATE_AWAKE             5
#define ROLLOUT_GATE_ASLEEP_PER_SECOND 10
#define ROLLOUT_GATE_HOLD_MS           600000

struct rollout_gate;

struct rollout_gate *rollout_gate_new(void);
void rollout_gate_free(struct rollout_gate *gate); /* NULL is fine */
/* Whether the Function may roll now; while awake it then holds a place until rollout_gate_leave(). now_ms: monotonic. */
bool rollout_gate_enter(struct rollout_gate *gate, const char *namespace, const char *name, bool awake,
                        int64_t now_ms);
/* Its rollout is complete, or it is gone. Nothing if it holds no place. */
void rollout_gate_leave(struct rollout_gate *gate, const char *namespace, const char *name);

#endif
