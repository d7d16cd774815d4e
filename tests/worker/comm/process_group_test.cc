// Ranks as processes, as in the service: what they compute, and what is left when one of them dies.

#include "tests/worker/comm/process_group.h"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "worker/comm/peer_address.h"

namespace kvec::worker::comm {
namespace {

struct Case {
  std::string name;
  Transport transport = Transport::kSharedMemory;
};

class ProcessGroupTest : public testing::TestWithParam<Case> {
 protected:
  static CommEndpoint::Options Options() {
    return {.transport = GetParam().transport, .interface = "lo", .timeout = absl::Seconds(30)};
  }
};

std::vector<float> RandomFloats(int seed, size_t count) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::vector<float> data(count);
  for (float& value : data) value = std::normal_distribution<float>()(random);
  return data;
}

std::string Fingerprint(const std::vector<float>& data) {
  return absl::StrCat(
      HashBytes({reinterpret_cast<const char*>(data.data()), data.size() * sizeof(data[0])}));
}

absl::Status Sum(GroupComm& comm, std::vector<float>& data) {
  const int cols = static_cast<int>(data.size());
  return comm.ranks->AllReduceSum({data.data(), 1, cols, cols});
}

TEST_P(ProcessGroupTest, FourRanksOnTwoCoresSumTheSameBits) {
  constexpr int kRanks = 4;
  constexpr int kRounds = 200;
  constexpr size_t kSizes[] = {576, 7, 18'432, 511};
  ProcessGroup group(kRanks, Options(), [&](CommEndpoint&, GroupComm& comm) -> std::string {
    std::vector<float> last;
    for (int round = 0; round < kRounds; ++round) {
      last = RandomFloats(comm.rank + kRanks * round, kSizes[round % 4]);
      if (const absl::Status status = Sum(comm, last); !status.ok()) return status.ToString();
      std::vector<float> expected = RandomFloats(kRanks * round, last.size());
      for (int rank = 1; rank < kRanks; ++rank) {
        const std::vector<float> part = RandomFloats(rank + kRanks * round, last.size());
        for (size_t i = 0; i < part.size(); ++i) expected[i] += part[i];
      }
      if (last != expected) return absl::StrCat("round ", round, " differs");
    }
    return Fingerprint(last);
  });
  const std::optional<std::string> first = group.Hear(0);
  for (int rank = 1; rank < kRanks; ++rank) EXPECT_EQ(group.Hear(rank), first);
  EXPECT_EQ(first->find("differs"), std::string::npos) << *first;
}

// Sums without end. Tells the test when it has begun, and in the end how it failed.
std::string SumUntilItFails(GroupComm& comm) {
  std::vector<float> data = RandomFloats(comm.rank, 50'000);
  absl::Status status;
  for (int64_t round = 0; status.ok(); ++round) {
    if (round == 50) ProcessGroup::Tell("summing");
    status = Sum(comm, data);
  }
  return std::string(absl::StatusCodeToString(status.code()));
}

TEST_P(ProcessGroupTest, AKilledPeerEndsTheOthersOperationsBeforeTheirDeadline) {
  CommEndpoint::Options options = Options();
  options.timeout = absl::Seconds(1);
  for (int repetition = 0; repetition < 5; ++repetition) {
    ProcessGroup group(3, options,
                       [](CommEndpoint&, GroupComm& comm) { return SumUntilItFails(comm); });
    for (int rank = 0; rank < 3; ++rank) ASSERT_EQ(group.Hear(rank), "summing");
    group.Kill(1, SIGKILL);
    const absl::Time killed_at = absl::Now();
    for (const int rank : {0, 2}) {
      // Over shared memory the death itself shows nowhere.
      const std::string heard = group.Hear(rank).value_or("nothing");
      EXPECT_TRUE(heard == "UNAVAILABLE" ||
                  (heard == "DEADLINE_EXCEEDED" && options.transport == Transport::kSharedMemory))
          << heard;
    }
    EXPECT_LT(absl::Now() - killed_at, absl::Seconds(20));
  }
}

TEST_P(ProcessGroupTest, AStoppedPeerIsMissedAtTheDeadline) {
  CommEndpoint::Options options = Options();
  options.timeout = absl::Milliseconds(300);
  ProcessGroup group(2, options,
                     [](CommEndpoint&, GroupComm& comm) { return SumUntilItFails(comm); });
  for (int rank = 0; rank < 2; ++rank) ASSERT_EQ(group.Hear(rank), "summing");
  group.Kill(1, SIGSTOP);
  EXPECT_EQ(group.Hear(0), "DEADLINE_EXCEEDED");
}

// UCX's files in shared memory, of all processes on this machine.
std::set<std::string> SharedMemoryFiles() {
  std::set<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator("/dev/shm")) {
    const std::string name = file.path().filename().string();
    if (name.rfind("ucx", 0) == 0) names.insert(name);
  }
  return names;
}

// True when no file of `names` is there any more, or was for 30 s. UCX unlinks its files as soon as
// they have their size, so those of a test that runs beside this one go away.
bool AreGone(const std::set<std::string>& names) {
  const auto is_left = [](const std::string& name) {
    return std::filesystem::exists(std::filesystem::path("/dev/shm") / name);
  };
  for (int tries = 0; tries < 300; ++tries) {
    if (std::none_of(names.begin(), names.end(), is_left)) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return false;
}

TEST_P(ProcessGroupTest, NothingIsLeftInSharedMemoryAfterAKill) {
  const std::set<std::string> before = SharedMemoryFiles();
  ProcessGroup group(2, Options(),
                     [](CommEndpoint&, GroupComm& comm) { return SumUntilItFails(comm); });
  for (int rank = 0; rank < 2; ++rank) ASSERT_EQ(group.Hear(rank), "summing");
  for (int rank = 0; rank < 2; ++rank) group.Kill(rank, SIGKILL);
  for (int rank = 0; rank < 2; ++rank) EXPECT_EQ(group.Hear(rank), std::nullopt);

  std::set<std::string> added = SharedMemoryFiles();
  for (const std::string& name : before) added.erase(name);
  EXPECT_TRUE(AreGone(added)) << testing::PrintToString(added);
}

INSTANTIATE_TEST_SUITE_P(, ProcessGroupTest,
                         testing::Values(Case{"SharedMemory", Transport::kSharedMemory},
                                         Case{"Tcp", Transport::kTcp}),
                         [](const testing::TestParamInfo<Case>& case_info) {
                           return case_info.param.name;
                         });

}  // namespace
}  // namespace kvec::worker::comm
