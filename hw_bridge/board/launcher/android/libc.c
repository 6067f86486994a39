/* Names only, to link against: on the phone they come from its own library. */
void exit(void) {}
void memcpy(void) {}
void memset(void) {}
