#ifndef KVEC_TESTS_CUSIM_LAUNCH_H_
#define KVEC_TESTS_CUSIM_LAUNCH_H_

#include <vector_types.h>

#include <cstddef>
#include <functional>

namespace kvec::cusim {

// A kernel and its arguments.
struct Launch {
  dim3 grid;
  dim3 block;
  size_t dynamic_shared_bytes = 0;
  const char* name = "";
  std::function<void()> body;  // of one thread
};

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_LAUNCH_H_
