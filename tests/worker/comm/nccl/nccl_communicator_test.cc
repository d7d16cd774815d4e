// Communicators between GPUs on the host simulator, over a stand-in for NCCL: every operation
// against plain loops over the ranks' data, and what ends an operation that can't end by itself.

#include "worker/comm/nccl/nccl_communicator.h"

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/comm/nccl/nccl_thread_group.h"
#include "tests/worker/comm/nccl/stand_in_nccl.h"
#include "tests/worker/comm/rank_data.h"

namespace kvec::worker::comm::nccl {
namespace {

using ::testing::HasSubstr;

std::vector<double> Sum(int num_ranks, int round, size_t count) {
  std::vector<double> sum(count, 0);
  for (int rank = 0; rank < num_ranks; ++rank) {
    const std::vector<float> part = RandomFloats(rank, round, count);
    for (size_t i = 0; i < count; ++i) sum[i] += double{part[i]};
  }
  return sum;
}

kernels::Tensor AsRow(float* data, size_t count) {
  const int cols = static_cast<int>(count);
  return {data, 1, cols, cols};
}

constexpr size_t kSizes[] = {1, 7, 17, 97, 511, 513, 100'000};

struct Case {
  int num_ranks = 1;
  cusim::Order order = cusim::Order::kForward;
};

class NcclCommunicatorTest : public testing::TestWithParam<Case> {
 protected:
  NcclThreadGroup group_{{.num_ranks = GetParam().num_ranks, .order = GetParam().order}};
};

TEST_P(NcclCommunicatorTest, SumsToTheSameBitsOnEveryRank) {
  std::vector<std::vector<std::vector<float>>> sums(static_cast<size_t>(group_.size()));
  group_.Run([&](GroupComm& comm, Gpu& gpu) {
    int round = 0;
    for (const size_t size : kSizes) {
      // Nobody waits for the upload: the sum is queued behind it.
      float* const data = gpu.Upload(RandomFloats(comm.rank, ++round, size));
      ASSERT_EQ(comm.TensorRanks().AllReduceSum(AsRow(data, size)), absl::OkStatus());
      sums[static_cast<size_t>(comm.rank)].push_back(gpu.Download(data, size));
      ASSERT_EQ(comm.Completed(), absl::OkStatus());
      const std::vector<double> expected = Sum(comm.num_ranks, round, size);
      for (size_t i = 0; i < size; ++i) {
        ASSERT_NEAR(double{sums[static_cast<size_t>(comm.rank)].back()[i]}, expected[i], 1e-3) << i;
      }
    }
  });
  for (const auto& of_rank : sums) EXPECT_EQ(of_rank, sums[0]);
}

TEST_P(NcclCommunicatorTest, SumsTensorsWhoseRowsAreApart) {
  constexpr int kRows = 5;
  constexpr int kCols = 511;
  constexpr int kStride = 600;
  group_.Run([&](GroupComm& comm, Gpu& gpu) {
    const std::vector<float> before = RandomFloats(comm.rank, 1, kRows * kStride);
    float* const data = gpu.Upload(before);
    ASSERT_EQ(comm.TensorRanks().AllReduceSum({data, kRows, kCols, kStride}), absl::OkStatus());
    const std::vector<float> after = gpu.Download(data, kRows * kStride);
    const std::vector<double> sum = Sum(comm.num_ranks, 1, kRows * kStride);
    for (size_t i = 0; i < after.size(); ++i) {
      ASSERT_NEAR(double{after[i]}, i % kStride < kCols ? sum[i] : double{before[i]}, 1e-3) << i;
    }
  });
}

TEST_P(NcclCommunicatorTest, GathersEveryRanksBytes) {
  if (GetParam().num_ranks == 1) return;
  group_.Run([&](GroupComm& comm, Gpu& gpu) {
    for (const size_t size : kSizes) {
      std::vector<uint8_t> expected;
      for (int rank = 0; rank < comm.num_ranks; ++rank) {
        const std::vector<uint8_t> part = RandomBytes(rank, 1, size);
        expected.insert(expected.end(), part.begin(), part.end());
      }
      const uint8_t* const mine = gpu.Upload(RandomBytes(comm.rank, 1, size));
      uint8_t* const all = gpu.Upload(std::vector<uint8_t>(expected.size()));
      ASSERT_EQ(comm.TensorRanks().AllGather({mine, size}, {all, expected.size()}),
                absl::OkStatus());
      EXPECT_EQ(gpu.Download(all, expected.size()), expected);
    }
  });
}

TEST_P(NcclCommunicatorTest, BroadcastsFromEveryRoot) {
  group_.Run([&](GroupComm& comm, Gpu& gpu) {
    for (int root = 0; root < comm.num_ranks; ++root) {
      for (const size_t size : kSizes) {
        uint8_t* const data = gpu.Upload(RandomBytes(comm.rank, root, size));
        ASSERT_EQ(comm.TensorRanks().Broadcast(root, {data, size}), absl::OkStatus());
        EXPECT_EQ(gpu.Download(data, size), RandomBytes(root, root, size));
      }
    }
  });
}

TEST_P(NcclCommunicatorTest, HandsMessagesDownAChainInOrder) {
  group_.Run([&](GroupComm& comm, Gpu& gpu) {
    int round = 0;
    for (const size_t size : kSizes) {
      uint8_t* const data = gpu.Upload(RandomBytes(comm.rank, ++round, size));
      if (comm.rank > 0) {
        ASSERT_EQ(comm.TensorRanks().Receive(comm.rank - 1, {data, size}), absl::OkStatus());
      }
      // What was received is sent on, with no wait between.
      if (comm.rank + 1 < comm.num_ranks) {
        ASSERT_EQ(comm.TensorRanks().Send(comm.rank + 1, {data, size}), absl::OkStatus());
      }
      EXPECT_EQ(gpu.Download(data, size), RandomBytes(0, round, size));
    }
    EXPECT_EQ(comm.Completed(), absl::OkStatus());
  });
}

// What a stream was given, as a graph; gone with it.
class Captured {
 public:
  Captured(Gpu& gpu, const std::function<absl::Status()>& queue) : gpu_(gpu) {
    EXPECT_EQ(cudaStreamBeginCapture(gpu.stream(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
    const absl::Status queued = queue();
    EXPECT_TRUE(queued.ok()) << queued;
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(gpu.stream(), &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiate(&graph_, graph, 0), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  }
  ~Captured() { EXPECT_EQ(cudaGraphExecDestroy(graph_), cudaSuccess); }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;

  absl::Status Launch(Communicator& of) {
    return of.Launch([this] {
      ++num_launches_;
      return cudaGraphLaunch(graph_, gpu_.stream()) == cudaSuccess ? absl::OkStatus()
                                                                   : absl::InternalError("launch");
    });
  }
  int num_launches() const { return num_launches_; }

 private:
  Gpu& gpu_;
  cudaGraphExec_t graph_ = nullptr;
  int num_launches_ = 0;
};

TEST_P(NcclCommunicatorTest, CapturedOperationsAreDoneAtEveryLaunch) {
  if (GetParam().num_ranks == 1) return;
  group_.Run([&](GroupComm& comm, Gpu& gpu) {
    constexpr size_t kSize = 20'001;  // more than a chunk of the stand-in's
    Communicator& ranks = comm.TensorRanks();
    float* const data = gpu.Upload(RandomFloats(comm.rank, 0, kSize));
    const absl::Span<uint8_t> bytes(reinterpret_cast<uint8_t*>(data), kSize * sizeof(float));
    Captured graph(gpu, [&] {
      absl::Status status = ranks.AllReduceSum(AsRow(data, kSize));
      if (comm.rank == 0) status.Update(ranks.Send(1, bytes.first(8)));
      if (comm.rank == 1) status.Update(ranks.Receive(0, bytes.first(8)));
      return status;
    });
    EXPECT_EQ(gpu.Download(data, kSize), RandomFloats(comm.rank, 0, kSize));  // nothing was done
    for (int round = 1; round <= 3; ++round) {
      const std::vector<float> mine = RandomFloats(comm.rank, round, kSize);
      ASSERT_EQ(
          cudaMemcpyAsync(data, mine.data(), bytes.size(), cudaMemcpyHostToDevice, gpu.stream()),
          cudaSuccess);
      ASSERT_EQ(graph.Launch(ranks), absl::OkStatus());
      if (round == 2) {  // one that was not captured, behind it
        ASSERT_EQ(ranks.AllReduceSum(AsRow(data, kSize)), absl::OkStatus());
      }
      const std::vector<float> sum = gpu.Download(data, kSize);
      ASSERT_EQ(comm.Completed(), absl::OkStatus());
      const std::vector<double> expected = Sum(comm.num_ranks, round, kSize);
      const double times = round == 2 ? comm.num_ranks : 1;
      for (size_t i = 0; i < kSize; ++i) ASSERT_NEAR(double{sum[i]}, times * expected[i], 5e-3);
    }
  });
}

TEST_P(NcclCommunicatorTest, AbortEndsAStreamThatWaits) {
  if (GetParam().num_ranks == 1) return;
  NcclDeviceComm& device_comm = group_.device_comm(0);
  std::thread aborter([&] {
    while (!device_comm.is_waiting()) std::this_thread::yield();
    device_comm.Abort();
  });
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  Gpu& gpu = group_.gpu(0);
  Communicator& ranks = group_.comm(0).TensorRanks();
  uint8_t* const data = gpu.Upload(std::vector<uint8_t>(100));
  // The abort may come before the message is queued, or behind.
  const absl::Status queued = ranks.Receive(1, {data, 100});
  EXPECT_TRUE(queued.ok() || queued.code() == absl::StatusCode::kUnavailable) << queued;
  gpu.Synchronize();
  aborter.join();
  EXPECT_EQ(group_.comm(0).Completed(), absl::UnavailableError("the group was aborted"));
  EXPECT_EQ(ranks.Receive(1, {data, 100}).code(), absl::StatusCode::kUnavailable);
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (int num_ranks : {1, 2, 3, 4, 6}) cases.push_back({num_ranks, cusim::Order::kForward});
  cases.push_back({3, cusim::Order::kReverse});
  cases.push_back({4, cusim::Order::kRandom});
  return cases;
}

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  const char* const orders[] = {"Forward", "Reverse", "Random"};
  return orders[static_cast<int>(info.param.order)] + std::to_string(info.param.num_ranks);
}

INSTANTIATE_TEST_SUITE_P(, NcclCommunicatorTest, testing::ValuesIn(Cases()), CaseName);

TEST(NcclCommunicatorFailures, APeerThatDoesNotComeIsNoticedAtTheDeadline) {
  NcclThreadGroup group({.num_ranks = 2, .timeouts = {.operation = absl::Milliseconds(50)}});
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  Gpu& gpu = group.gpu(0);
  float* const data = gpu.Upload(std::vector<float>(100));
  const absl::Time begin = absl::Now();
  ASSERT_EQ(group.comm(0).TensorRanks().AllReduceSum(AsRow(data, 100)), absl::OkStatus());
  gpu.Synchronize();  // ends because the watch has aborted
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(50));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(20));
  EXPECT_EQ(group.comm(0).Completed().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(group.comm(0).TensorRanks().AllReduceSum(AsRow(data, 100)).code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST(NcclCommunicatorFailures, APeerThatDoesNotLaunchItsGraphIsNoticedAtTheDeadline) {
  NcclThreadGroup group({.num_ranks = 2, .timeouts = {.operation = absl::Milliseconds(200)}});
  group.Run([](GroupComm& comm, Gpu& gpu) {
    float* const data = gpu.Upload(std::vector<float>(100));
    Communicator& ranks = comm.TensorRanks();
    Captured graph(gpu, [&] { return ranks.AllReduceSum(AsRow(data, 100)); });
    ASSERT_EQ(graph.Launch(ranks), absl::OkStatus());
    gpu.Synchronize();
    ASSERT_EQ(comm.Completed(), absl::OkStatus());
    if (comm.rank == 1) return;
    const absl::Time begin = absl::Now();
    ASSERT_EQ(graph.Launch(ranks), absl::OkStatus());
    EXPECT_TRUE(ranks.Launch([] { return absl::OkStatus(); }).ok());  // the first deadline counts
    gpu.Synchronize();  // ends because the watch has aborted
    EXPECT_GE(absl::Now() - begin, absl::Milliseconds(200));
    EXPECT_LT(absl::Now() - begin, absl::Seconds(20));
    EXPECT_EQ(comm.Completed().code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_EQ(graph.Launch(ranks).code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_EQ(graph.num_launches(), 2);
  });
}

// While the communicator is being aborted, which its graphs hold up: nobody else is.
TEST(NcclCommunicatorFailures, AnAbortWaitsForGraphsAlone) {
  NcclThreadGroup group({.num_ranks = 2});
  group.Run([](GroupComm& comm, Gpu& gpu) {
    float* const data = gpu.Upload(std::vector<float>(100));
    Communicator& ranks = comm.TensorRanks();
    Captured graph(gpu, [&] { return ranks.AllReduceSum(AsRow(data, 100)); });
    comm.Abort();
    EXPECT_EQ(comm.Completed(), absl::UnavailableError("the group was aborted"));
    EXPECT_EQ(graph.Launch(ranks).code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(graph.num_launches(), 0);
  });
}

TEST(NcclCommunicatorFailures, AnOperationThatIsDoneHasNoDeadline) {
  NcclThreadGroup group({.num_ranks = 2, .timeouts = {.operation = absl::Seconds(1)}});
  group.Run([](GroupComm& comm, Gpu& gpu) {
    float* const data = gpu.Upload(std::vector<float>(100));
    // Together they take longer than one may.
    const absl::Time begin = absl::Now();
    uint8_t goes_on = 1;
    while (goes_on != 0) {
      ASSERT_EQ(comm.TensorRanks().AllReduceSum(AsRow(data, 100)), absl::OkStatus());
      gpu.Synchronize();
      ASSERT_EQ(comm.Completed(), absl::OkStatus());
      // Both go round equally often.
      goes_on = absl::Now() - begin < absl::Seconds(2) ? 1 : 0;
      ASSERT_EQ(comm.ranks->Broadcast(0, {&goes_on, 1}), absl::OkStatus());
    }
  });
}

TEST(NcclCommunicatorFailures, SlowOperationsAreWaitedFor) {
  NcclThreadGroup group({.num_ranks = 2});
  SetNcclDelay(absl::Milliseconds(30));
  group.Run([](GroupComm& comm, Gpu& gpu) {
    const absl::Time begin = absl::Now();
    float* const data = gpu.Upload(std::vector<float>(3, 1.0f));
    ASSERT_EQ(comm.TensorRanks().AllReduceSum(AsRow(data, 3)), absl::OkStatus());
    EXPECT_EQ(gpu.Download(data, 3), std::vector<float>(3, 2.0f));
    EXPECT_GE(absl::Now() - begin, absl::Milliseconds(30));
    EXPECT_EQ(comm.Completed(), absl::OkStatus());
  });
  SetNcclDelay(absl::ZeroDuration());
}

TEST(NcclCommunicatorFailures, AnAsynchronousErrorEndsEveryRank) {
  NcclThreadGroup group({.num_ranks = 3});
  group.Run([](GroupComm& comm, Gpu& gpu) {
    float* const data = gpu.Upload(std::vector<float>(100));
    if (comm.rank == 2) {
      FailNcclNetwork();
    } else {
      const absl::Status queued = comm.TensorRanks().AllReduceSum(AsRow(data, 100));
      EXPECT_TRUE(queued.ok() || queued.code() == absl::StatusCode::kUnavailable) << queued;
      gpu.Synchronize();
    }
    const absl::Status status = comm.Completed();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()), HasSubstr("network error"));
  });
}

TEST(NcclCommunicatorFailures, RanksThatDoNotAgreeGetAnError) {
  NcclThreadGroup group({.num_ranks = 2});
  group.Run([](GroupComm& comm, Gpu& gpu) {
    const size_t count = comm.rank == 0 ? 100 : 99;
    float* const data = gpu.Upload(std::vector<float>(100));
    (void)comm.TensorRanks().AllReduceSum(AsRow(data, count));
    gpu.Synchronize();
    EXPECT_FALSE(comm.Completed().ok());
  });
}

TEST(NcclCommunicatorFailures, RefusesRanksThatAreNotThere) {
  NcclThreadGroup group({.num_ranks = 2});
  uint8_t byte = 0;
  Communicator& ranks = group.comm(0).TensorRanks();
  for (const int peer : {-1, 0, 2}) {
    EXPECT_EQ(ranks.Send(peer, {&byte, 1}).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(ranks.Receive(peer, {&byte, 1}).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(ranks.Broadcast(2, {&byte, 1}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ranks.AllGather({&byte, 1}, {&byte, 1}).code(), absl::StatusCode::kInvalidArgument);
}

TEST(NcclDeviceCommTest, NothingOfAGroupIsLeft) {
  {
    NcclThreadGroup group({.num_stages = 2, .num_ranks = 2});
    EXPECT_EQ(NumNcclCommunicators(), 8);  // of the group and of the stage, of each
  }
  EXPECT_EQ(NumNcclCommunicators(), 0);
}

TEST(NcclDeviceCommTest, StagesAndRanksHaveCommunicatorsOfTheirOwn) {
  NcclThreadGroup group({.num_stages = 2, .num_ranks = 2});
  group.Run([](GroupComm& comm, Gpu& gpu) {
    EXPECT_EQ(comm.TensorRanks().rank(), comm.rank);
    EXPECT_EQ(comm.TensorRanks().size(), 2);
    EXPECT_EQ(comm.TensorGroup().rank(), comm.Index(comm.stage, comm.rank));
    EXPECT_EQ(comm.TensorGroup().size(), 4);
    // A Step of tp=2, pp=2: sums in a stage, and hidden states to the next one.
    float* const hidden = gpu.Upload(std::vector<float>(1000, comm.stage == 0 ? 1.0f : 0.0f));
    const absl::Span<uint8_t> bytes(reinterpret_cast<uint8_t*>(hidden), 4000);
    if (comm.stage == 1) {
      ASSERT_EQ(comm.TensorGroup().Receive(comm.Index(0, comm.rank), bytes), absl::OkStatus());
    }
    ASSERT_EQ(comm.TensorRanks().AllReduceSum(AsRow(hidden, 1000)), absl::OkStatus());
    if (comm.stage == 0) {
      ASSERT_EQ(comm.TensorGroup().Send(comm.Index(1, comm.rank), bytes), absl::OkStatus());
    }
    EXPECT_EQ(gpu.Download(hidden, 1000), std::vector<float>(1000, comm.stage == 0 ? 2.0f : 4.0f));
    EXPECT_EQ(comm.Completed(), absl::OkStatus());
  });
}

TEST(NcclHandleTest, ConnectEndsAtItsDeadlineWhenAMemberIsMissing) {
  cusim::Reset();
  const NcclLibrary& nccl = **NcclLibrary::Open();
  ncclUniqueId id;
  ASSERT_EQ(nccl.get_unique_id(&id), ncclSuccess);
  {
    NcclHandle handle(nccl);
    EXPECT_EQ(handle.Connect(id, 0, 2, absl::Milliseconds(30)).code(),
              absl::StatusCode::kDeadlineExceeded);
  }
  EXPECT_EQ(NumNcclCommunicators(), 0);
}

TEST(NcclHandleTest, AbortEndsAConnectThatWaitsForMembers) {
  cusim::Reset();
  const NcclLibrary& nccl = **NcclLibrary::Open();
  ncclUniqueId id;
  ASSERT_EQ(nccl.get_unique_id(&id), ncclSuccess);
  {
    NcclHandle handle(nccl);
    std::thread aborter([&] {
      while (!handle.is_waiting()) std::this_thread::yield();
      handle.Abort();
    });
    EXPECT_EQ(handle.Connect(id, 0, 2, absl::Seconds(60)),
              absl::UnavailableError("the group was aborted"));
    aborter.join();
  }
  EXPECT_EQ(NumNcclCommunicators(), 0);
}

TEST(NcclDeviceCommTest, AbortBeforeConnectIsNotForgottenUntilRenew) {
  cusim::Reset({.num_devices = 2});
  NcclThreadGroup group({.num_ranks = 2});
  group.Run([](GroupComm& comm, Gpu& gpu) {
    NcclDeviceComm device_comm(gpu.stream());
    device_comm.Abort();
    EXPECT_EQ(device_comm.Connect({}, comm).code(), absl::StatusCode::kUnavailable);
    device_comm.Renew();
    EXPECT_EQ(device_comm.Connect({}, comm), absl::OkStatus());
  });
}

}  // namespace
}  // namespace kvec::worker::comm::nccl
