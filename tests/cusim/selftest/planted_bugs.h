#ifndef KVEC_TESTS_CUSIM_SELFTEST_PLANTED_BUGS_H_
#define KVEC_TESTS_CUSIM_SELFTEST_PLANTED_BUGS_H_

#include <cuda_runtime_api.h>

#include <string_view>
#include <vector>

namespace kvec::cusim {

inline constexpr int kThreads = 64;
inline constexpr int kBlocks = 4;

// Queues kernels that write kThreads floats to `out`, beginning with 63, 62, … where they are
// right. On `other` runs what should have been ordered with `stream` by an event.
using Program = cudaError_t (*)(cudaStream_t stream, cudaStream_t other, float* out);

struct NamedProgram {
  std::string_view name;
  Program run;
};

// Programs without a mistake, and with one each.
const std::vector<NamedProgram>& CorrectPrograms();
const std::vector<NamedProgram>& PlantedBugs();

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_SELFTEST_PLANTED_BUGS_H_
