// The communicator over UCX, by shared memory and by TCP on the loopback: every operation against
// plain loops over the ranks' data, and what ends an operation that can't end by itself.

#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/worker/comm/rank_data.h"
#include "tests/worker/comm/thread_group.h"

namespace kvec::worker::comm {
namespace {

std::vector<float> SumInOrder(int num_ranks, int round, size_t count) {
  std::vector<float> sum = RandomFloats(0, round, count);
  for (int rank = 1; rank < num_ranks; ++rank) {
    const std::vector<float> part = RandomFloats(rank, round, count);
    for (size_t i = 0; i < count; ++i) sum[i] += part[i];
  }
  return sum;
}

bool HasSameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

kernels::Tensor AsRow(std::vector<float>& data) {
  const int cols = static_cast<int>(data.size());
  return {data.data(), 1, cols, cols};
}

constexpr size_t kSizes[] = {1, 7, 17, 97, 511, 513, 1 << 20};

struct Case {
  std::string name;
  Transport transport = Transport::kSharedMemory;
  int num_ranks = 1;
};

class UcxCommunicatorTest : public testing::TestWithParam<Case> {
 protected:
  static CommEndpoint::Options Options() {
    return {.transport = GetParam().transport, .interface = "lo", .timeout = absl::Seconds(30)};
  }

  ThreadGroup group_{{.num_ranks = GetParam().num_ranks}, Options()};
};

TEST_P(UcxCommunicatorTest, SumsInRankOrderWithTheSameBitsOnEveryRank) {
  ASSERT_EQ(group_.size(), GetParam().num_ranks);
  group_.Run([&](GroupComm& comm) {
    int round = 0;
    for (const size_t size : kSizes) {
      std::vector<float> data = RandomFloats(comm.rank, ++round, size);
      ASSERT_EQ(comm.ranks->AllReduceSum(AsRow(data)), absl::OkStatus())
          << "rank " << comm.rank << ", " << size << " floats";
      EXPECT_TRUE(HasSameBits(data, SumInOrder(comm.num_ranks, round, size))) << size;
    }
  });
}

TEST_P(UcxCommunicatorTest, SumsTensorsWhoseRowsAreApart) {
  ASSERT_EQ(group_.size(), GetParam().num_ranks);
  constexpr int kRows = 13;
  constexpr int kCols = 511;
  constexpr int kStride = 600;
  group_.Run([&](GroupComm& comm) {
    const std::vector<float> before = RandomFloats(comm.rank, 1, kRows * kStride);
    std::vector<float> data = before;
    ASSERT_EQ(comm.ranks->AllReduceSum({data.data(), kRows, kCols, kStride}), absl::OkStatus());
    const std::vector<float> sum = SumInOrder(comm.num_ranks, 1, kRows * kStride);
    for (int i = 0; i < kRows * kStride; ++i) {
      ASSERT_EQ(data[i], (i % kStride < kCols ? sum : before)[i]) << i;
    }
  });
}

TEST_P(UcxCommunicatorTest, GathersEveryRanksBytes) {
  ASSERT_EQ(group_.size(), GetParam().num_ranks);
  group_.Run([&](GroupComm& comm) {
    for (const size_t size : kSizes) {
      std::vector<uint8_t> all(size * comm.num_ranks);
      std::vector<uint8_t> expected;
      for (int rank = 0; rank < comm.num_ranks; ++rank) {
        const std::vector<uint8_t> part = RandomBytes(rank, 1, size);
        expected.insert(expected.end(), part.begin(), part.end());
      }
      ASSERT_EQ(comm.ranks->AllGather(RandomBytes(comm.rank, 1, size), absl::MakeSpan(all)),
                absl::OkStatus());
      EXPECT_EQ(all, expected);
      // In place.
      std::fill(all.begin(), all.end(), 0);
      const auto mine = absl::MakeSpan(all).subspan(comm.rank * size, size);
      const std::vector<uint8_t> bytes = RandomBytes(comm.rank, 1, size);
      std::copy(bytes.begin(), bytes.end(), mine.begin());
      ASSERT_EQ(comm.ranks->AllGather(mine, absl::MakeSpan(all)), absl::OkStatus());
      EXPECT_EQ(all, expected);
    }
  });
}

TEST_P(UcxCommunicatorTest, BroadcastsFromEveryRoot) {
  ASSERT_EQ(group_.size(), GetParam().num_ranks);
  group_.Run([&](GroupComm& comm) {
    for (int root = 0; root < comm.num_ranks; ++root) {
      for (const size_t size : kSizes) {
        std::vector<uint8_t> data = RandomBytes(comm.rank, root, size);
        ASSERT_EQ(comm.ranks->Broadcast(root, absl::MakeSpan(data)), absl::OkStatus());
        EXPECT_EQ(data, RandomBytes(root, root, size));
      }
    }
  });
}

TEST_P(UcxCommunicatorTest, PassesMessagesRoundARingInOrder) {
  ASSERT_EQ(group_.size(), GetParam().num_ranks);
  if (GetParam().num_ranks == 1) return;
  group_.Run([&](GroupComm& comm) {
    const int next = (comm.rank + 1) % comm.num_ranks;
    const int last = (comm.rank + comm.num_ranks - 1) % comm.num_ranks;
    int round = 0;
    for (const size_t size : {1, 7, 17, 97, 511, 513, 100'000}) {
      ASSERT_EQ(comm.ranks->Send(next, RandomBytes(comm.rank, ++round, size)), absl::OkStatus());
    }
    round = 0;
    for (const size_t size : {1, 7, 17, 97, 511, 513, 100'000}) {
      std::vector<uint8_t> data(size);
      ASSERT_EQ(comm.ranks->Receive(last, absl::MakeSpan(data)), absl::OkStatus());
      EXPECT_EQ(data, RandomBytes(last, ++round, size));
    }
  });
}

TEST_P(UcxCommunicatorTest, AbortEndsAnOperationThatWaits) {
  ASSERT_EQ(group_.size(), GetParam().num_ranks);
  if (GetParam().num_ranks == 1) return;
  CommEndpoint& endpoint = group_.endpoint(0);
  absl::Time aborted_at;
  std::thread aborter([&] {
    while (!endpoint.is_waiting()) std::this_thread::yield();
    aborted_at = absl::Now();
    endpoint.Abort();
  });
  std::vector<uint8_t> data(100);
  Communicator& ranks = *group_.comm(0).ranks;
  const absl::Status status = ranks.Receive(1, absl::MakeSpan(data));
  const absl::Time ended_at = absl::Now();
  aborter.join();
  EXPECT_EQ(status, absl::UnavailableError("receive: the group was aborted"));
  EXPECT_LT(ended_at - aborted_at, absl::Seconds(1));  // milliseconds on a machine that is idle
  EXPECT_EQ(ranks.Send(1, data).code(), absl::StatusCode::kUnavailable);
  EXPECT_FALSE(endpoint.is_waiting());
}

TEST_P(UcxCommunicatorTest, AnOperationEndsAtItsDeadline) {
  const int num_ranks = GetParam().num_ranks;
  if (num_ranks == 1) return;
  CommEndpoint::Options options = Options();
  options.timeout = absl::Milliseconds(50);
  ThreadGroup group({.num_ranks = num_ranks}, options);
  ASSERT_EQ(group.size(), num_ranks);
  std::vector<float> data(100'000);
  const absl::Time begin = absl::Now();
  const absl::Status status = group.comm(0).ranks->AllReduceSum(AsRow(data));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(50));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(20));
  std::vector<uint8_t> byte(1);
  // Its sends are with the others: they get an error, not half a sum.
  for (int rank = 1; rank < num_ranks; ++rank) {
    EXPECT_FALSE(group.comm(rank).ranks->Broadcast(0, absl::MakeSpan(byte)).ok());
  }
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const Transport transport : {Transport::kSharedMemory, Transport::kTcp}) {
    for (int num_ranks = 1; num_ranks <= 6; ++num_ranks) {
      const std::string name = transport == Transport::kTcp ? "Tcp" : "SharedMemory";
      cases.push_back({name + std::to_string(num_ranks), transport, num_ranks});
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(, UcxCommunicatorTest, testing::ValuesIn(Cases()),
                         [](const testing::TestParamInfo<Case>& case_info) {
                           return case_info.param.name;
                         });

const CommEndpoint::Options kSharedMemory = {.transport = Transport::kSharedMemory};

TEST(UcxCommunicatorMessages, OfAnotherSizeThanExpectedAreAnError) {
  for (const size_t sent : {99u, 101u}) {
    ThreadGroup group({.num_ranks = 2}, kSharedMemory);
    ASSERT_EQ(group.size(), 2);
    group.Run([&](GroupComm& comm) {
      std::vector<uint8_t> data(comm.rank == 0 ? sent : 100);
      if (comm.rank == 0) {
        EXPECT_EQ(comm.ranks->Send(1, data), absl::OkStatus());
        return;
      }
      const absl::Status status = comm.ranks->Receive(0, absl::MakeSpan(data));
      EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
      EXPECT_EQ(comm.ranks->Receive(0, absl::MakeSpan(data)).code(), absl::StatusCode::kInternal);
    });
  }
}

TEST(UcxCommunicatorMessages, AReceiverThatComputesDoesNotHoldASenderOfAChunkUp) {
  ThreadGroup group({.num_ranks = 2}, kSharedMemory);
  ASSERT_EQ(group.size(), 2);
  // Hidden states of 512 tokens; the receiver begins only when the sender is done.
  const std::vector<uint8_t> chunk = RandomBytes(0, 0, 512 * 576 * sizeof(float));
  ASSERT_EQ(group.comm(0).ranks->Send(1, chunk), absl::OkStatus());
  std::vector<uint8_t> data(chunk.size());
  ASSERT_EQ(group.comm(1).ranks->Receive(0, absl::MakeSpan(data)), absl::OkStatus());
  EXPECT_EQ(data, chunk);
}

// What fills the sockets comes to its end although the sender, once Send has returned, does nothing
// more for it.
TEST(UcxCommunicatorMessages, ASenderOverTcpIsDoneWhenItsCallReturns) {
  const CommEndpoint::Options options = {.transport = Transport::kTcp, .interface = "lo"};
  for (const size_t size : {1u, 4096u, 4097u, 100'000u, 30'000'000u}) {
    ThreadGroup group({.num_ranks = 2}, options);
    ASSERT_EQ(group.size(), 2);
    const std::vector<uint8_t> sent = RandomBytes(0, 0, size);
    std::thread sender(
        [&] { EXPECT_EQ(group.comm(0).ranks->Send(1, sent), absl::OkStatus()) << size; });
    std::vector<uint8_t> data(size);
    EXPECT_EQ(group.comm(1).ranks->Receive(0, absl::MakeSpan(data)), absl::OkStatus()) << size;
    sender.join();
    EXPECT_EQ(data, sent);
    // The next message finds its way past the last one's tail.
    sender = std::thread([&] {
      for (int i = 0; i < 2; ++i) {
        EXPECT_EQ(group.comm(0).ranks->Send(1, sent), absl::OkStatus());
      }
    });
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(group.comm(1).ranks->Receive(0, absl::MakeSpan(data)), absl::OkStatus()) << size;
      EXPECT_EQ(data, sent);
    }
    sender.join();
  }
}

TEST(UcxCommunicatorMessages, RefusesRanksThatAreNotThere) {
  ThreadGroup group({.num_ranks = 2}, kSharedMemory);
  ASSERT_EQ(group.size(), 2);
  std::vector<uint8_t> data(1);
  Communicator& ranks = *group.comm(0).ranks;
  for (const int peer : {-1, 0, 2}) {
    EXPECT_EQ(ranks.Send(peer, data).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(ranks.Receive(peer, absl::MakeSpan(data)).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(ranks.Broadcast(2, absl::MakeSpan(data)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ranks.AllGather(data, absl::MakeSpan(data)).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kvec::worker::comm
