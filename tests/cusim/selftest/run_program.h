#ifndef KVEC_TESTS_CUSIM_SELFTEST_RUN_PROGRAM_H_
#define KVEC_TESTS_CUSIM_SELFTEST_RUN_PROGRAM_H_

#include <vector>

#include "tests/cusim/cusim.h"
#include "tests/cusim/selftest/planted_bugs.h"

namespace kvec::cusim {

struct ProgramResult {
  cudaError_t error = cudaSuccess;
  std::vector<float> out;  // [kThreads]
};

// Runs a program on a fresh simulator.
inline ProgramResult RunProgram(Program program, const Options& options) {
  Reset(options);
  ProgramResult result;
  result.out.resize(kThreads);
  float* out = nullptr;
  cudaStream_t streams[2];
  for (cudaStream_t& stream : streams) cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  cudaMalloc(reinterpret_cast<void**>(&out), kThreads * sizeof(float));
  result.error = program(streams[0], streams[1], out);
  cudaMemcpyAsync(result.out.data(), out, kThreads * sizeof(float), cudaMemcpyDeviceToHost,
                  streams[0]);
  const cudaError_t error = cudaDeviceSynchronize();
  if (result.error == cudaSuccess) result.error = error;
  return result;
}

// What a program without a mistake writes.
inline std::vector<float> ExpectedOut() {
  std::vector<float> out(kThreads);
  for (int i = 0; i < kThreads; ++i)
    out[static_cast<size_t>(i)] = static_cast<float>(kThreads - 1 - i);
  return out;
}

}  // namespace kvec::cusim

#endif  // KVEC_TESTS_CUSIM_SELFTEST_RUN_PROGRAM_H_
