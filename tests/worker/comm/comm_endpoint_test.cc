#include "worker/comm/comm_endpoint.h"

#include <algorithm>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/worker/comm/thread_group.h"
#include "worker/comm/peer_address.h"

namespace kvec::worker::comm {
namespace {

const CommEndpoint::Options kSharedMemory = {.transport = Transport::kSharedMemory};

std::unique_ptr<CommEndpoint> MakeEndpoint(const CommEndpoint::Options& options) {
  auto endpoint = CommEndpoint::Create(options);
  EXPECT_TRUE(endpoint.ok()) << endpoint.status();
  return *std::move(endpoint);
}

// What the second of two members says to `address` as the first one's.
absl::Status ConnectToFirst(const std::string& address, const CommEndpoint::Options& options) {
  const auto endpoint = MakeEndpoint(options);
  return endpoint->Connect({.epoch = 1, .rank = 1, .num_ranks = 2}, {address, endpoint->address()})
      .status();
}

TEST(CommEndpointTest, GivesEveryWorkerItsStageAndTheWholeGroup) {
  ThreadGroup group({.num_stages = 3, .num_ranks = 2}, kSharedMemory);
  ASSERT_EQ(group.size(), 6);
  group.Run([](GroupComm& comm) {
    EXPECT_EQ(comm.ranks->rank(), comm.rank);
    EXPECT_EQ(comm.ranks->size(), 2);
    EXPECT_EQ(comm.group->rank(), comm.Index(comm.stage, comm.rank));
    EXPECT_EQ(comm.group->size(), 6);
    const uint8_t mine = static_cast<uint8_t>(comm.group->rank());
    std::vector<uint8_t> of_stage(2);
    ASSERT_EQ(comm.ranks->AllGather({&mine, 1}, absl::MakeSpan(of_stage)), absl::OkStatus());
    EXPECT_EQ(of_stage[0], comm.Index(comm.stage, 0));
    EXPECT_EQ(of_stage[1], comm.Index(comm.stage, 1));
    // Stage to stage, while the ranks of a stage talk among themselves.
    uint8_t passed = mine;
    if (comm.stage > 0) {
      ASSERT_EQ(comm.group->Receive(comm.Index(comm.stage - 1, comm.rank), {&passed, 1}),
                absl::OkStatus());
      EXPECT_EQ(passed, comm.rank);
    }
    ASSERT_EQ(comm.ranks->AllGather({&mine, 1}, absl::MakeSpan(of_stage)), absl::OkStatus());
    if (comm.stage < 2) {
      ASSERT_EQ(comm.group->Send(comm.Index(comm.stage + 1, comm.rank), {&passed, 1}),
                absl::OkStatus());
    }
  });
}

TEST(CommEndpointTest, AGroupOfOneNeedsNoPeers) {
  const std::unique_ptr<GroupComm> comm = MakeLocalGroupComm();
  EXPECT_EQ(comm->ranks->size(), 1);
  EXPECT_EQ(comm->group->size(), 1);
}

TEST(CommEndpointTest, RefusesAddressesThatAreNone) {
  const std::string good = MakeEndpoint(kSharedMemory)->address();
  std::vector<std::string> addresses = {"", "x", std::string(5000, 'x'), good + "x",
                                        good.substr(0, good.size() - 1)};
  std::mt19937 random(1);
  for (int i = 0; i < 100; ++i) {
    std::string& garbled = addresses.emplace_back(good);
    garbled[random() % garbled.size()] ^= static_cast<char>(1 << random() % 8);
    std::string& noise = addresses.emplace_back(random() % 200, '\0');
    for (char& byte : noise) byte = static_cast<char>(random());
  }
  for (const std::string& address : addresses) {
    const absl::Status status = ConnectToFirst(address, kSharedMemory);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(status.message().find("comm_addresses[0] "), 0u) << status;
  }
}

TEST(CommEndpointTest, RefusesAPlaceThatTheAddressesDoNotFit) {
  const auto endpoint = MakeEndpoint(kSharedMemory);
  const std::vector<std::string> two = {endpoint->address(), endpoint->address()};
  for (const CommEndpoint::Place& place :
       {CommEndpoint::Place{.rank = 2, .num_ranks = 2}, CommEndpoint::Place{.rank = -1},
        CommEndpoint::Place{.num_stages = 0}, CommEndpoint::Place{.num_ranks = 3},
        CommEndpoint::Place{.num_stages = 2, .num_ranks = 2}}) {
    EXPECT_EQ(endpoint->Connect(place, two).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(CommEndpointTest, RefusesAGroupThatKnowsItByAnotherAddress) {
  const auto endpoint = MakeEndpoint(kSharedMemory);
  const std::string other = MakeEndpoint(kSharedMemory)->address();
  EXPECT_EQ(endpoint->Connect({.rank = 1, .num_ranks = 2}, {other, other}).status(),
            absl::InvalidArgumentError("comm_addresses[1] is not this worker's address of now"));
}

TEST(CommEndpointTest, SaysWhenMembersShareNoTransport) {
  PeerAddress elsewhere = *ParsePeerAddress(MakeEndpoint(kSharedMemory)->address());
  elsewhere.host_id ^= 1;
  EXPECT_EQ(ConnectToFirst(elsewhere.Encode(), {.interface = "lo"}),
            absl::FailedPreconditionError(
                "member 0 of the group is on another host and TCP is not offered by it"));
  EXPECT_EQ(ConnectToFirst(elsewhere.Encode(), kSharedMemory),
            absl::FailedPreconditionError("member 0 of the group is on another host and TCP is "
                                          "not offered by this worker"));
}

TEST(CommEndpointTest, RefusesAGroupOfGpusAndProcessors) {
  const auto first = MakeEndpoint(kSharedMemory);
  const auto second = MakeEndpoint(kSharedMemory);
  const std::vector<std::string> addresses = {first->address(), second->address()};
  absl::Status of_first;
  std::thread other([&] {
    of_first =
        first->Connect({.rank = 0, .num_ranks = 2, .has_device_memory = true}, addresses).status();
  });
  const absl::Status of_second = second->Connect({.rank = 1, .num_ranks = 2}, addresses).status();
  other.join();
  EXPECT_EQ(of_first, absl::FailedPreconditionError(
                          "member 1 of the group is a worker on a CPU, this one has a GPU"));
  EXPECT_EQ(of_second, absl::FailedPreconditionError(
                           "member 0 of the group is a worker on a GPU, this one is not"));
}

TEST(CommEndpointTest, NamesAnInterfaceThatIsNotThere) {
  const auto endpoint =
      CommEndpoint::Create({.transport = Transport::kTcp, .interface = "nosuch0"});
  ASSERT_FALSE(endpoint.ok());
  EXPECT_NE(endpoint.status().message().find("nosuch0"), std::string::npos) << endpoint.status();
}

TEST(CommEndpointTest, AbortEndsAConnectThatWaitsForMembers) {
  const auto endpoint = MakeEndpoint(kSharedMemory);
  const auto absent = MakeEndpoint(kSharedMemory);
  std::thread aborter([&] {
    while (!endpoint->is_waiting()) std::this_thread::yield();
    endpoint->Abort();
  });
  const auto comm = endpoint->Connect({.epoch = 1, .rank = 1, .num_ranks = 2},
                                      {absent->address(), endpoint->address()});
  aborter.join();
  EXPECT_EQ(comm.status(), absl::UnavailableError("all-gather: the group was aborted"));
}

TEST(CommEndpointTest, AbortBeforeConnectIsNotForgotten) {
  const auto endpoint = MakeEndpoint(kSharedMemory);
  const auto absent = MakeEndpoint(kSharedMemory);
  endpoint->Abort();
  EXPECT_EQ(endpoint
                ->Connect({.epoch = 1, .rank = 1, .num_ranks = 2},
                          {absent->address(), endpoint->address()})
                .status()
                .code(),
            absl::StatusCode::kUnavailable);
}

TEST(CommEndpointTest, ServesOneGroupOnly) {
  ThreadGroup group({.num_ranks = 2}, kSharedMemory);
  ASSERT_EQ(group.size(), 2);
  const std::vector<std::string> addresses = {group.endpoint(0).address(),
                                              group.endpoint(1).address()};
  EXPECT_EQ(group.endpoint(0).Connect({.epoch = 2, .num_ranks = 2}, addresses).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

// Two members who were told different epochs, and so take part in different groups, must not take
// one another's messages for their own.
TEST(CommEndpointTest, EpochsDoNotMix) {
  CommEndpoint::Options options = kSharedMemory;
  options.connect_timeout = absl::Milliseconds(300);
  const auto first = MakeEndpoint(options);
  const auto second = MakeEndpoint(options);
  const std::vector<std::string> addresses = {first->address(), second->address()};
  absl::Status of_first;
  std::thread other([&] {
    of_first = first->Connect({.epoch = 1, .rank = 0, .num_ranks = 2}, addresses).status();
  });
  const absl::Status of_second =
      second->Connect({.epoch = 2, .rank = 1, .num_ranks = 2}, addresses).status();
  other.join();
  EXPECT_EQ(of_first.code(), absl::StatusCode::kDeadlineExceeded) << of_first;
  EXPECT_EQ(of_second.code(), absl::StatusCode::kDeadlineExceeded) << of_second;
}

}  // namespace
}  // namespace kvec::worker::comm
