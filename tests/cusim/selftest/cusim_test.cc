#include "tests/cusim/cusim.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cusim/selftest/run_program.h"

namespace kvec::cusim {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<Options> AllOrders() {
  std::vector<Options> orders = {{.order = Order::kForward}, {.order = Order::kReverse}};
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    orders.push_back({.order = Order::kRandom, .seed = seed});
  }
  return orders;
}

TEST(CusimTest, CorrectProgramsGiveTheSameInEveryOrder) {
  for (const NamedProgram& program : CorrectPrograms()) {
    for (const Options& options : AllOrders()) {
      const ProgramResult result = RunProgram(program.run, options);
      EXPECT_EQ(result.error, cudaSuccess) << program.name << ": " << FaultMessage();
      EXPECT_EQ(result.out, ExpectedOut()) << program.name;
    }
  }
}

#ifndef KVEC_CUSIM_SANITIZED  // a sanitizer ends the process: see sanitizer_test.cc

Program FindBug(std::string_view name) {
  for (const NamedProgram& program : PlantedBugs()) {
    if (program.name == name) return program.run;
  }
  return nullptr;
}

std::string FaultOf(std::string_view name) {
  RunProgram(FindBug(name), {});
  return FaultMessage();
}

bool SomeOrderIsWrong(std::string_view name) {
  for (const Options& options : AllOrders()) {
    if (RunProgram(FindBug(name), options).out != ExpectedOut()) return true;
  }
  return false;
}

TEST(CusimTest, OrdersShowAMissingBarrier) { EXPECT_TRUE(SomeOrderIsWrong("MissingBarrier")); }

TEST(CusimTest, OrdersShowAMissingWarpSync) { EXPECT_TRUE(SomeOrderIsWrong("MissingWarpSync")); }

TEST(CusimTest, EveryOrderShowsACopyThatNobodyWaitedFor) {
  for (const Options& options : AllOrders()) {
    EXPECT_TRUE(std::isnan(RunProgram(FindBug("MissingCopyWait"), options).out[0]));
  }
}

TEST(CusimTest, OrdersShowAMissingEvent) { EXPECT_TRUE(SomeOrderIsWrong("MissingEvent")); }

TEST(CusimTest, NamesADivergentBarrier) {
  EXPECT_THAT(FaultOf("DivergentBarrier"),
              AllOf(HasSubstr("divergent __syncthreads(): others wait at planted_bugs.cu:"),
                    HasSubstr("block 0,0,0 thread 16")));
}

TEST(CusimTest, NamesABarrierThatSomeThreadsNeverReach) {
  EXPECT_THAT(FaultOf("BarrierAfterExit"), HasSubstr("exit"));
}

TEST(CusimTest, NamesAShuffleThatHalfOfTheWarpMisses) {
  EXPECT_THAT(FaultOf("DivergentShuffle"), HasSubstr("warp collective at planted_bugs.cu:"));
}

TEST(CusimTest, NamesWritesOutsideOfArrays) {
  EXPECT_THAT(FaultOf("SharedOverrun"), HasSubstr("an array of 256 bytes in shared memory"));
  EXPECT_THAT(FaultOf("DeviceOverrun"), HasSubstr("an allocation of 256 bytes in device memory"));
  EXPECT_THAT(FaultOf("DeviceUnderrun"), HasSubstr("an allocation of 256 bytes in device memory"));
}

TEST(CusimTest, UnwrittenMemoryIsNotANumber) {
  const ProgramResult result = RunProgram(FindBug("UnwrittenShared"), {});
  EXPECT_TRUE(std::isnan(result.out[0]));
  EXPECT_EQ(result.out[1], 0.0f);
}

TEST(CusimTest, FaultsOutlastEveryCall) {
  RunProgram(FindBug("DivergentBarrier"), {});
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 16), cudaErrorLaunchFailure);
  EXPECT_THAT(cudaGetErrorString(cudaErrorLaunchFailure), HasSubstr("divergent"));
  Reset();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

TEST(CusimDeathTest, TheHostCannotReadDeviceMemory) {
  Reset();
  float* memory = nullptr;
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&memory), 64), cudaSuccess);
  EXPECT_DEATH(
      {
        volatile float value = memory[0];
        (void)value;
      },
      "");
}

#endif  // KVEC_CUSIM_SANITIZED

class CusimRuntimeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Reset();
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&device_, 1024), cudaSuccess);
  }

  cudaStream_t stream_ = nullptr;
  void* device_ = nullptr;
  char host_[2048] = {};
};

TEST_F(CusimRuntimeTest, RejectsCopiesThatRunOverAnEnd) {
  EXPECT_EQ(cudaMemcpyAsync(device_, host_, 1024, cudaMemcpyHostToDevice, stream_), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(device_, host_, 1025, cudaMemcpyHostToDevice, stream_),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy2DAsync(device_, 512, host_, 512, 512, 3, cudaMemcpyHostToDevice, stream_),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy2DAsync(device_, 256, host_, 512, 512, 1, cudaMemcpyHostToDevice, stream_),
            cudaErrorInvalidPitchValue);
}

TEST_F(CusimRuntimeTest, RejectsCopiesInTheWrongDirection) {
  EXPECT_EQ(cudaMemcpyAsync(device_, host_, 8, cudaMemcpyDeviceToHost, stream_),
            cudaErrorInvalidMemcpyDirection);
  EXPECT_EQ(cudaMemcpyAsync(device_, host_, 8, cudaMemcpyDeviceToDevice, stream_),
            cudaErrorInvalidMemcpyDirection);
}

TEST_F(CusimRuntimeTest, PinnedMemoryIsReadWhenTheStreamGetsThere) {
  char* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(reinterpret_cast<void**>(&pinned), 4), cudaSuccess);
  pinned[0] = 'a';
  host_[0] = 'a';
  ASSERT_EQ(cudaMemcpyAsync(device_, pinned, 1, cudaMemcpyHostToDevice, stream_), cudaSuccess);
  ASSERT_EQ(
      cudaMemcpyAsync(static_cast<char*>(device_) + 1, host_, 1, cudaMemcpyHostToDevice, stream_),
      cudaSuccess);
  pinned[0] = 'b';  // too early
  host_[0] = 'b';   // pageable memory was read by the call
  char back[2];
  ASSERT_EQ(cudaMemcpyAsync(back, device_, 2, cudaMemcpyDeviceToHost, stream_), cudaSuccess);
  EXPECT_EQ(std::string(back, 2), "ba");
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST_F(CusimRuntimeTest, CountsCallsAndWaits) {
  const int64_t waits = NumWaits();
  char* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(reinterpret_cast<void**>(&pinned), 4), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(device_, host_, 4, cudaMemcpyHostToDevice, stream_), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(pinned, device_, 4, cudaMemcpyDeviceToHost, stream_), cudaSuccess);
  EXPECT_EQ(NumWaits(), waits);
  EXPECT_EQ(NumCalls("cudaMemcpyAsync"), 2);
  EXPECT_EQ(NumCalls("cudaMemcpy2DAsync"), 0);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(NumCalls("cudaStreamSynchronize"), 1);
  EXPECT_EQ(NumWaits(), waits + 1);
  // Pageable memory is filled when the call returns, and nobody may still use what is freed.
  ASSERT_EQ(cudaMemcpyAsync(host_, device_, 4, cudaMemcpyDeviceToHost, stream_), cudaSuccess);
  EXPECT_EQ(NumWaits(), waits + 2);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);  // there is nothing to wait for
  EXPECT_EQ(NumWaits(), waits + 2);
  ASSERT_EQ(cudaMemcpyAsync(pinned, device_, 4, cudaMemcpyDeviceToHost, stream_), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
  EXPECT_EQ(NumWaits(), waits + 3);
}

class CusimGraphTest : public CusimRuntimeTest {
 protected:
  void SetUp() override {
    CusimRuntimeTest::SetUp();
    ASSERT_EQ(cudaMallocHost(reinterpret_cast<void**>(&pinned_), 4), cudaSuccess);
  }

  void Begin() {
    ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  }
  cudaGraphExec_t End() {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    return executable;
  }
  // The capture has come to nothing, and the stream is as before.
  void ExpectInvalidated() {
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(graph, nullptr);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_EQ(NumGraphs(), 0);
  }

  char* pinned_ = nullptr;
};

TEST_F(CusimGraphTest, CapturedWorkRunsAtEveryLaunchAndNoEarlier) {
  ASSERT_EQ(cudaMemsetAsync(device_, 'a', 4, stream_), cudaSuccess);
  Begin();
  ASSERT_EQ(cudaMemcpyAsync(device_, pinned_, 4, cudaMemcpyHostToDevice, stream_), cudaSuccess);
  ASSERT_EQ(PushWork(stream_, [this] { ++static_cast<char*>(device_)[1]; }), cudaSuccess);
  cudaGraphExec_t executable = End();
  ASSERT_EQ(cudaMemcpyAsync(host_, device_, 4, cudaMemcpyDeviceToHost, stream_), cudaSuccess);
  EXPECT_EQ(std::string(host_, 4), "aaaa");
  for (const char* const expected : {"pqpp", "xyxx"}) {
    std::fill_n(pinned_, 4, expected[0]);  // what is there when the graph runs
    ASSERT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
    ASSERT_EQ(cudaMemcpyAsync(host_, device_, 4, cudaMemcpyDeviceToHost, stream_), cudaSuccess);
    EXPECT_EQ(std::string(host_, 4), expected);
  }
  EXPECT_EQ(NumGraphs(), 1);
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  EXPECT_EQ(NumGraphs(), 0);
  EXPECT_EQ(cudaGraphLaunch(executable, stream_), cudaErrorInvalidValue);
}

TEST_F(CusimGraphTest, CapturedWorkThatWaitsDoesSoAtEveryLaunch) {
  int num_allowed = 0;
  int num_run = 0;
  Begin();
  ASSERT_EQ(PushWork(
                stream_, [&] { ++num_run; }, [&] { return ++num_allowed > 2 * num_run + 1; }),
            cudaSuccess);
  cudaGraphExec_t executable = End();
  EXPECT_EQ(num_allowed, 0);
  for (int launch = 1; launch <= 3; ++launch) {
    ASSERT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_EQ(num_run, launch);
    EXPECT_EQ(num_allowed, 2 * launch);  // it was asked in vain once
  }
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
}

TEST_F(CusimGraphTest, TellsWhetherAStreamIsBeingCaptured) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusActive;
  ASSERT_EQ(cudaStreamIsCapturing(stream_, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusNone);
  Begin();
  ASSERT_EQ(cudaStreamIsCapturing(stream_, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusActive);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorStreamCaptureUnsupported);
  ASSERT_EQ(cudaStreamIsCapturing(stream_, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusInvalidated);
  ExpectInvalidated();
}

TEST_F(CusimGraphTest, WaitingEndsACapture) {
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  const std::function<cudaError_t()> waits[] = {[&] { return cudaStreamSynchronize(stream_); },
                                                [&] { return cudaDeviceSynchronize(); },
                                                [&] { return cudaEventSynchronize(event); }};
  for (const auto& wait : waits) {
    Begin();
    EXPECT_EQ(wait(), cudaErrorStreamCaptureUnsupported);
    ExpectInvalidated();
  }
}

TEST_F(CusimGraphTest, AllocatingAndFreeingEndACapture) {
  void* memory = nullptr;
  const std::function<cudaError_t()> calls[] = {
      [&] { return cudaMalloc(&memory, 16); }, [&] { return cudaMallocHost(&memory, 16); },
      [&] { return cudaFree(device_); }, [&] { return cudaFreeHost(pinned_); }};
  for (const auto& call : calls) {
    Begin();
    EXPECT_EQ(call(), cudaErrorStreamCaptureUnsupported);
    ExpectInvalidated();
  }
  EXPECT_EQ(cudaMemcpyAsync(device_, pinned_, 4, cudaMemcpyHostToDevice, stream_), cudaSuccess);
}

TEST_F(CusimGraphTest, PageableMemoryEndsACapture) {
  for (const bool to_host : {false, true}) {
    Begin();
    EXPECT_EQ(to_host ? cudaMemcpyAsync(host_, device_, 4, cudaMemcpyDeviceToHost, stream_)
                      : cudaMemcpyAsync(device_, host_, 4, cudaMemcpyHostToDevice, stream_),
              cudaErrorStreamCaptureUnsupported);
    ExpectInvalidated();
  }
}

TEST_F(CusimGraphTest, AnotherThreadMayAllocateMeanwhile) {
  Begin();
  void* memory = nullptr;
  cudaError_t error = cudaErrorUnknown;
  std::thread([&] { error = cudaMalloc(&memory, 16); }).join();
  EXPECT_EQ(error, cudaSuccess);
  EXPECT_EQ(cudaGraphExecDestroy(End()), cudaSuccess);
}

TEST_F(CusimGraphTest, CapturesBeginAndEndOnce) {
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorIllegalState);
  Begin();
  EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
            cudaErrorIllegalState);
  EXPECT_EQ(cudaGraphExecDestroy(End()), cudaSuccess);
}

TEST_F(CusimRuntimeTest, CountsMemory) {
  Reset({.device_memory_bytes = size_t{1} << 20});
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, size_t{2} << 20), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  for (int i = 0; i < 100; ++i) {  // what is freed is there again
    ASSERT_EQ(cudaMalloc(&memory, size_t{1} << 19), cudaSuccess);
    ASSERT_EQ(cudaFree(memory), cudaSuccess);
  }
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  ASSERT_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  EXPECT_EQ(free_bytes, total_bytes);
  EXPECT_EQ(cudaFree(host_), cudaErrorInvalidValue);
}

TEST_F(CusimRuntimeTest, HasNoDefaultStream) {
  EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaErrorInvalidResourceHandle);
}

TEST_F(CusimRuntimeTest, MayHaveNoDevice) {
  Reset({.num_devices = 0});
  int count = -1;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  EXPECT_EQ(count, 0);
}

}  // namespace
}  // namespace kvec::cusim
