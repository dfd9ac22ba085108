// A program as other distributions build it: it needs the C++ library, and sqlite if it was compiled with it.
#include <iostream>
#ifdef WITH_SQLITE
#include <sqlite3.h>
#endif

int main() {
    std::cout << "hello from abroad\n";
#ifdef WITH_SQLITE
    std::cout << "with sqlite " << sqlite3_libversion() << "\n";
#endif
}
