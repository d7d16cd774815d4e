#include "worker/comm/local_communicator.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace kvec::worker::comm {
namespace {

TEST(LocalCommunicatorTest, LeavesWhatIsItsOwnAsItIs) {
  LocalCommunicator comm;
  std::vector<float> x = {1.5f, -2.0f};
  EXPECT_EQ(comm.AllReduceSum({x.data(), 1, 2, 2}), absl::OkStatus());
  EXPECT_EQ(x, (std::vector<float>{1.5f, -2.0f}));
  std::vector<uint8_t> mine = {1, 2, 3};
  std::vector<uint8_t> all(3);
  EXPECT_EQ(comm.AllGather(mine, absl::MakeSpan(all)), absl::OkStatus());
  EXPECT_EQ(all, mine);
  EXPECT_EQ(comm.AllGather(all, absl::MakeSpan(all)), absl::OkStatus());
  EXPECT_EQ(comm.Broadcast(0, absl::MakeSpan(all)), absl::OkStatus());
  EXPECT_EQ(all, mine);
}

TEST(LocalCommunicatorTest, RefusesPeers) {
  LocalCommunicator comm;
  std::vector<uint8_t> data(1);
  EXPECT_EQ(comm.Send(0, data).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(comm.Receive(1, absl::MakeSpan(data)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(comm.Broadcast(1, absl::MakeSpan(data)).code(), absl::StatusCode::kInvalidArgument);
  std::vector<uint8_t> two(2);
  EXPECT_EQ(comm.AllGather(data, absl::MakeSpan(two)).code(), absl::StatusCode::kInvalidArgument);
}

TEST(LocalCommunicatorTest, EveryOperationFailsAfterAbort) {
  LocalCommunicator comm;
  comm.Abort();
  std::vector<uint8_t> data(1);
  EXPECT_EQ(comm.AllReduceSum({}).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(comm.AllGather(data, absl::MakeSpan(data)).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(comm.Broadcast(0, absl::MakeSpan(data)).code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace kvec::worker::comm
