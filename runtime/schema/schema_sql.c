/* The text of cicada.sql, as it is in the tree when this is compiled. */
#include "runtime/schema/schema.h"

__asm__(".section .rodata\n"
        ".global schema_sql\n"
        ".hidden schema_sql\n"
        ".type schema_sql, @object\n"
        "schema_sql:\n"
        ".incbin \"runtime/schema/cicada.sql\"\n"
        ".byte 0\n"
        ".size schema_sql, . - schema_sql\n"
        ".previous\n");
