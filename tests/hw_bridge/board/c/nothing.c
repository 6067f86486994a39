/* Brings the C library under another name: Android's. */
#include <stdlib.h>

__attribute__((visibility("default"))) void *mandheling_test_needs = (void *)exit;
