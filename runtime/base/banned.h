/* banned.h - libc functions that end in bugs; force-included into every file of ours after the system headers. */
#ifndef CICADA_BASE_BANNED_H
#define CICADA_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf strtok strtok_r atoi atol atoll gets       \
    gmtime localtime asctime ctime

#endif
