/* Names only, to link against: on the phone they come from its own library. */
void dlopen(void) {}
void dlsym(void) {}
void dlerror(void) {}
