/* version.h - what this build calls itself; the Makefile defines CICADA_VERSION. */
#ifndef CICADA_BASE_VERSION_H
#define CICADA_BASE_VERSION_H

#ifndef CICADA_VERSION
#define CICADA_VERSION "0.0.0-dev"
#endif

#endif
