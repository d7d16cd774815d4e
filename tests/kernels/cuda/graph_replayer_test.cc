#include "kernels/cuda/graph_replayer.h"

#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/cuda_buffer.h"
#include "kernels/cuda/cuda_device.h"
#include "tests/kernels/cuda/kernel_test.h"

namespace kvec::kernels::cuda {
namespace {

using Part = WorkReplayer::Key::Part;

class GraphReplayerTest : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    device_ = MakeDevice({});
    replayer_ = device_->MakeReplayer();
    auto memory = device_->Allocate(4 * sizeof(float));
    ASSERT_TRUE(memory.ok()) << memory.status();
    memory_ = *std::move(memory);
  }

  static std::unique_ptr<CudaDevice> MakeDevice(const CudaDevice::Options& options) {
    auto device = CudaDevice::Create(options);
    EXPECT_TRUE(device.ok()) << device.status();
    return *std::move(device);
  }

  // Work that adds `values` to the numbers in memory_.
  absl::Status Add(const WorkReplayer::Key& key) {
    return Run(key, [&] {
      ++num_calls_;
      return device_->GatedActivation(Input(), Activation::kSilu,
                                      ProductInput::Of({Data() + 2, 1, 2, 2}));
    });
  }
  absl::Status Run(const WorkReplayer::Key& key, absl::FunctionRef<absl::Status()> work) {
    return replayer_->Run(key, work, peers_);
  }
  Tensor Input() { return {Data(), 1, 4, 4}; }
  float* Data() { return static_cast<float*>(memory_->data()); }

  std::unique_ptr<CudaDevice> device_;
  std::unique_ptr<WorkReplayer> replayer_;
  std::unique_ptr<DeviceMemory> memory_;
  WorkPeers* peers_ = nullptr;
  int num_calls_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Orders, GraphReplayerTest, kAllOrders, OrderName);

TEST_P(GraphReplayerTest, PadsToFewNumbersOfRows) {
  std::vector<int> padded;
  for (int rows = 1; rows <= 512; ++rows) {
    const int own = replayer_->PaddedRows(rows);
    EXPECT_GE(own, rows);
    EXPECT_EQ(replayer_->PaddedRows(own), own);
    if (padded.empty() || padded.back() != own) padded.push_back(own);
  }
  EXPECT_EQ(padded, (std::vector<int>{1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 320, 384, 448, 512}));
  const auto without = MakeDevice({.use_graphs = false})->MakeReplayer();
  EXPECT_EQ(without->PaddedRows(5), 8);
}

// What the GPU is given to do the second time is captured, and done once as well.
TEST_P(GraphReplayerTest, CapturesWorkThatComesAgain) {
  float values[] = {0, 0, 0, 0};
  ASSERT_TRUE(device_->Upload({reinterpret_cast<uint8_t*>(values), 16}, Data()).ok());
  for (int run = 0; run < 5; ++run) {
    ASSERT_TRUE(Add({.num_rows = 1}).ok());
    ASSERT_TRUE(Add({.part = Part::kHead, .num_rows = 1}).ok());
  }
  EXPECT_EQ(num_calls_, 4);
  EXPECT_EQ(device_->graph_counts().runs, 2);
  EXPECT_EQ(device_->graph_counts().captures, 2);
  EXPECT_EQ(device_->graph_counts().replays, 6);
  EXPECT_EQ(cusim::NumCalls("cudaGraphLaunch"), 8);
  EXPECT_EQ(cusim::NumGraphs(), 2);
  replayer_.reset();
  EXPECT_EQ(cusim::NumGraphs(), 0);
  EXPECT_TRUE(device_->Synchronize().ok()) << cusim::FaultMessage();
}

TEST_P(GraphReplayerTest, QueuesWorkThatCannotBeCaptured) {
  for (int run = 0; run < 4; ++run) {
    const absl::Status status = Run({}, [&] {
      ++num_calls_;
      return device_->Synchronize();
    });
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_EQ(num_calls_, 5);
  EXPECT_EQ(device_->graph_counts().failed_captures, 1);
  EXPECT_EQ(device_->graph_counts().captures, 0);
  EXPECT_EQ(cusim::NumGraphs(), 0);
}

TEST_P(GraphReplayerTest, TellsTheErrorOfWork) {
  for (int run = 0; run < 3; ++run) {
    EXPECT_EQ(Run({}, [] { return absl::InternalError("no"); }).message(), "no");
  }
  EXPECT_EQ(cusim::NumGraphs(), 0);
}

TEST_P(GraphReplayerTest, CapturesAnewWhenMemoryHasMoved) {
  for (int run = 0; run < 3; ++run) ASSERT_TRUE(Add({.num_rows = 1}).ok());
  CudaScratch scratch;
  ASSERT_TRUE(scratch.Reserve<float>(100).ok());
  ASSERT_TRUE(Add({.num_rows = 1}).ok());
  ASSERT_TRUE(Add({.num_rows = 1}).ok());
  EXPECT_EQ(device_->graph_counts().captures, 2);
  EXPECT_EQ(device_->graph_counts().replays, 2);
  EXPECT_EQ(cusim::NumGraphs(), 1);
}

TEST_P(GraphReplayerTest, ForgetsGraphsAndWhatHasCome) {
  for (int run = 0; run < 3; ++run) ASSERT_TRUE(Add({.num_rows = 1}).ok());
  replayer_->Forget();
  EXPECT_EQ(cusim::NumGraphs(), 0);
  for (int run = 0; run < 3; ++run) ASSERT_TRUE(Add({.num_rows = 1}).ok());
  EXPECT_EQ(device_->graph_counts().runs, 2);
  EXPECT_EQ(device_->graph_counts().captures, 2);
  EXPECT_EQ(device_->graph_counts().replays, 2);
}

// Another device, which tells what the test wants.
class TestPeer final : public WorkPeers {
 public:
  absl::StatusOr<std::vector<int64_t>> Exchange(absl::Span<const int64_t> mine) override {
    told.assign(mine.begin(), mine.end());
    std::vector<int64_t> all = told;
    all.insert(all.end(), {cannot_capture ? 1 : 0, max_decode_entries, buffer_moves});
    return all;
  }
  absl::Status Launch(absl::FunctionRef<absl::Status()> launch) override {
    ++num_launches;
    return is_lost ? absl::UnavailableError("lost") : launch();
  }

  bool is_lost = false;
  bool cannot_capture = false;
  int64_t max_decode_entries = 0;
  int64_t buffer_moves = 7;
  std::vector<int64_t> told;  // by the device of the test
  int num_launches = 0;
};

TEST_P(GraphReplayerTest, DoesWhatFollowsFromWhatAllPeersHaveTold) {
  TestPeer peer;
  peers_ = &peer;
  const GraphCounts& counts = device_->graph_counts();
  const auto add = [&](int times) {
    for (int i = 0; i < times; ++i) ASSERT_TRUE(Add({.num_rows = 1}).ok());
  };
  add(3);
  EXPECT_EQ(counts.runs, 1);
  EXPECT_EQ(counts.captures, 1);
  EXPECT_EQ(counts.replays, 1);
  EXPECT_EQ(peer.num_launches, 2);
  peer.buffer_moves = 8;  // its graph is to be another one
  add(2);
  EXPECT_EQ(counts.captures, 2);
  EXPECT_EQ(counts.replays, 2);
  peer.max_decode_entries = 1 << 20;  // as is its work, and ours then
  add(3);
  EXPECT_EQ(device_->step_tables().max_decode_entries(), 1 << 20);
  EXPECT_EQ(counts.runs, 2);
  EXPECT_EQ(counts.captures, 3);
  peer.cannot_capture = true;
  add(3);
  EXPECT_EQ(counts.runs, 5);
  EXPECT_EQ(counts.captures, 3);
  peer.cannot_capture = false;
  peer.is_lost = true;
  EXPECT_EQ(Add({.num_rows = 1}).code(), absl::StatusCode::kUnavailable);
}

// Peers have captured it: whoever could not does not go on without them.
TEST_P(GraphReplayerTest, AFailedCaptureIsAnErrorBesidePeersAndTheLast) {
  TestPeer peer;
  peers_ = &peer;
  const auto work = [&] { return device_->Synchronize(); };
  EXPECT_TRUE(Run({}, work).ok());
  EXPECT_EQ(peer.told[0], 0);
  peer.is_lost = true;
  EXPECT_EQ(Run({}, work).code(), absl::StatusCode::kUnavailable);
  peer.is_lost = false;
  EXPECT_EQ(Run({}, work).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(peer.told[0], 0);
  EXPECT_TRUE(Run({}, work).ok());
  EXPECT_EQ(peer.told[0], 1);
}

TEST_P(GraphReplayerTest, DropsTheLeastUsedOfManyGraphs) {
  const auto add = [&](int rows) { ASSERT_TRUE(Add({.num_rows = rows}).ok()); };
  for (int rows = 1; rows <= GraphCache::kMaxGraphs + 1; ++rows) {
    add(rows);
    add(rows);
    add(1);
  }
  EXPECT_EQ(cusim::NumGraphs(), GraphCache::kMaxGraphs);
  const int64_t captures = device_->graph_counts().captures;
  add(1);
  EXPECT_EQ(device_->graph_counts().captures, captures);
  add(2);  // has gone
  EXPECT_EQ(device_->graph_counts().captures, captures + 1);
  EXPECT_EQ(cusim::NumGraphs(), GraphCache::kMaxGraphs);
}

TEST_P(GraphReplayerTest, WithoutGraphsNothingIsCaptured) {
  const auto device = MakeDevice({.use_graphs = false});
  const auto replayer = device->MakeReplayer();
  int num_calls = 0;
  for (int run = 0; run < 3; ++run) {
    ASSERT_TRUE(replayer
                    ->Run(
                        {}, [&] { return ++num_calls, absl::OkStatus(); }, nullptr)
                    .ok());
  }
  EXPECT_EQ(num_calls, 3);
  EXPECT_EQ(cusim::NumCalls("cudaStreamBeginCapture"), 0);
}

}  // namespace
}  // namespace kvec::kernels::cuda
