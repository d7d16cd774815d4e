#ifndef KVEC_TESTS_CUSIM_CALL_SITE_H_
#define KVEC_TESTS_CUSIM_CALL_SITE_H_

namespace kvec::cusim {

// A place in a kernel's source: that of the call which Current() is a default argument of.
// std::source_location does the same, but not with Debian 12's clang.
struct CallSite {
  const char* file = "";
  int line = 0;

  static constexpr CallSite Current(const char* file = __builtin_FILE(),
                                    int line = __builtin_LINE()) {
    return {file, line};
  }
};

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_CALL_SITE_H_
