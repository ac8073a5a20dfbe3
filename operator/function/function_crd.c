/* The text of the CustomResourceDefinition, as it is in the tree when this is compiled. */
#include "operator/function/function_schema.h"

__asm__(".section .rodata\n"
        ".global function_crd_text\n"
        ".hidden function_crd_text\n"
        ".type function_crd_text, @object\n"
        "function_crd_text:\n"
        ".incbin \"crds/cicada.dev_functions.yaml\"\n"
        ".byte 0\n"
        ".size function_crd_text, . - function_crd_text\n"
        ".previous\n");
