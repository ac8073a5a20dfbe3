/* trigger_gather.h - what is known of a Function's triggers; and tells the watches of databases what they are to watch.
 *
 * A database is told of a Function only when the finalizer is there. Threads: any; one gathering per Function at a time.
 */
#ifndef CICADA_FUNCTION_TRIGGER_GATHER_H
#define CICADA_FUNCTION_TRIGGER_GATHER_H

#include "operator/function/function_gather.h"

/* Fills gathered->world.triggers; Function and Deployment are there already. Without sources->backlog it does nothing. */
void trigger_gather(const struct function_sources *sources, struct function_gathered *gathered);
void trigger_gather_release(struct function_gathered *gathered);

#endif
