// Attention as a CUDA graph has the bits of attention that is queued kernel by kernel.

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/cuda_kv_arena.h"
#include "tests/kernels/cuda/kernel_test.h"

namespace kvec::kernels::cuda {
namespace {

constexpr HeadShape kShape{.num_heads = 6, .num_kv_heads = 2, .head_dim = 64, .group_size = 3};
constexpr int kLayers = 2;
constexpr int kMaxRows = 16;
constexpr int kPages = 400;
constexpr float kUntouched = 77.0f;

// A sequence's page tables, alike on two devices.
struct TestSequence {
  std::vector<std::vector<int32_t>> pages{kLayers * 2};  // [layer, KV head]
  std::vector<std::unique_ptr<ResidentTable>> resident[2] = {};
  int num_entries = 0;

  TestSequence() {
    for (auto& tables : resident) tables.resize(pages.size());
  }
};

// Attention of two layers on a device with graphs and on one that queues every row's work as it
// comes, without padding.
class GraphAttentionTest : public KernelTest {
 protected:
  struct Side {
    std::unique_ptr<CudaDevice> device;
    std::unique_ptr<KvArena> arena;
    std::unique_ptr<DeviceMemory> memory;
    Tensor qkv;  // [kMaxRows, …]
    Tensor out;  // [kLayers · kMaxRows, …]
    std::unique_ptr<DeviceMemory> angles_memory;
    Tensor angles;  // [kMaxRows, head_dim], of random turns
    std::unique_ptr<WorkReplayer> replayer;
  };

  void SetUp() override {
    KernelTest::SetUp();
    for (Side& side : sides_) MakeSide(side);
    for (int32_t page = 0; page < kPages; ++page) free_.push_back(page);
  }

  void MakeSide(Side& side) {
    side.device = *CudaDevice::Create({});
    side.arena = *side.device->AllocateKvArena(
        {.head_dim = kShape.head_dim, .type = KvType::kBF16, .num_pages = kPages});
    const int qkv_cols = kShape.qkv_cols();
    const int out_cols = kShape.num_heads * kShape.head_dim;
    const size_t floats = static_cast<size_t>(kMaxRows * (qkv_cols + kLayers * out_cols));
    side.memory = *side.device->Allocate(floats * sizeof(float));
    auto* const data = static_cast<float*>(side.memory->data());
    side.qkv = {data, kMaxRows, qkv_cols, qkv_cols};
    side.out = {data + kMaxRows * qkv_cols, kLayers * kMaxRows, out_cols, out_cols};
    Matrix angles = Matrix::Random(kMaxRows, kShape.head_dim, 5);
    side.angles = angles.tensor();
    const size_t bytes = static_cast<size_t>(kMaxRows * side.angles.stride) * sizeof(float);
    side.angles_memory = *side.device->Allocate(bytes);
    ASSERT_TRUE(side.device
                    ->Upload({reinterpret_cast<const uint8_t*>(side.angles.data), bytes},
                             side.angles_memory->data())
                    .ok());
    side.angles.data = static_cast<float*>(side.angles_memory->data());
    side.replayer = side.device->MakeReplayer();
    const CudaKvArena& arena = static_cast<const CudaKvArena&>(*side.arena);
    const std::vector<uint8_t> zeros(arena.bytes());
    const size_t page_bytes = kPages * arena.spec().page_bytes();
    ASSERT_TRUE(
        side.device->Upload(absl::MakeConstSpan(zeros).first(page_bytes), arena.pages().pages)
            .ok());
  }

  void Append(TestSequence& sequence, int num_tokens) {
    sequence.num_entries += num_tokens;
    for (auto& table : sequence.pages) {
      while (static_cast<int>(table.size()) * kPageTokens < sequence.num_entries) {
        ASSERT_FALSE(free_.empty());
        table.push_back(free_.back());
        free_.pop_back();
      }
    }
  }
  void Free(const TestSequence& sequence) {
    for (const auto& table : sequence.pages) free_.insert(free_.end(), table.begin(), table.end());
  }

  // A Step of the sequences' last token, or tokens, on one side.
  void Run(int index, const std::vector<TestSequence*>& sequences, const std::vector<int>& rows,
           const Matrix& qkv) {
    Side& side = sides_[index];
    std::vector<std::vector<HeadPages>> heads;
    std::vector<std::vector<AttentionSequence>> of_layers(kLayers);
    for (int layer = 0; layer < kLayers; ++layer) {
      for (TestSequence* sequence : sequences) {
        heads.emplace_back();
        for (int head = 0; head < kShape.num_kv_heads; ++head) {
          const auto table = static_cast<size_t>(layer * kShape.num_kv_heads + head);
          heads.back().push_back({sequence->pages[table].data(), sequence->num_entries,
                                  &sequence->resident[index][table]});
        }
      }
    }
    std::vector<AttentionBatch> batches;
    int num_rows = 0;
    for (int layer = 0; layer < kLayers; ++layer) {
      num_rows = 0;
      auto& own = of_layers[static_cast<size_t>(layer)];
      for (size_t i = 0; i < sequences.size(); ++i) {
        own.push_back(
            {num_rows, rows[i], false, heads[static_cast<size_t>(layer) * sequences.size() + i]});
        num_rows += rows[i];
      }
      batches.push_back({own, layer == 1 ? 50 : 0, 0.125f, layer});
    }
    Upload(side, qkv);
    const bool replays = index == 0;
    const int tensor_rows = replays ? side.replayer->PaddedRows(num_rows) : num_rows;
    const std::vector<int32_t> positions(static_cast<size_t>(num_rows), 5);
    ASSERT_TRUE(side.device->PrepareStep({batches, positions, tensor_rows}).ok());
    const auto work = [&] { return Attend(side, batches, positions, tensor_rows); };
    const absl::Status status =
        replays ? side.replayer->Run({.num_rows = tensor_rows}, work, nullptr) : work();
    ASSERT_TRUE(status.ok()) << status << cusim::FaultMessage();
  }

  static absl::Status Attend(Side& side, const std::vector<AttentionBatch>& batches,
                             const std::vector<int32_t>& positions, int tensor_rows) {
    for (const AttentionBatch& batch : batches) {
      const Tensor qkv = side.qkv.Rows(0, tensor_rows);
      const Tensor out = side.out.Rows(batch.prepared_index * kMaxRows, tensor_rows);
      absl::Status status = side.device->RotateAndAppendKv(
          qkv, kShape, {.norm = {}, .angles = side.angles.Rows(0, tensor_rows)}, positions, batch,
          *side.arena);
      status.Update(side.device->Attention(qkv, kShape, batch, *side.arena, ProductInput::Of(out)));
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  void Upload(Side& side, const Matrix& qkv) {
    std::vector<float> values;
    for (int row = 0; row < kMaxRows; ++row) {
      for (int col = 0; col < kShape.qkv_cols(); ++col) {
        values.push_back(row < qkv.rows() ? qkv.at(row, col) : kUntouched);
      }
    }
    values.resize(side.memory->bytes() / sizeof(float), kUntouched);
    ASSERT_TRUE(side.device
                    ->Upload({reinterpret_cast<const uint8_t*>(values.data()),
                              values.size() * sizeof(float)},
                             side.memory->data())
                    .ok());
  }

  std::vector<uint8_t> Download(Side& side, const void* from, size_t bytes) {
    std::vector<uint8_t> values(bytes);
    EXPECT_TRUE(side.device->Download(from, absl::MakeSpan(values)).ok());
    return values;
  }
  // qkv and out, padding included.
  std::vector<uint8_t> Tensors(Side& side) {
    return Download(side, side.memory->data(), side.memory->bytes());
  }
  std::vector<uint8_t> Pages(Side& side) {
    const auto& arena = static_cast<const CudaKvArena&>(*side.arena);
    return Download(side, arena.pages().pages, kPages * arena.spec().page_bytes());
  }

  Side sides_[2];
  std::vector<int32_t> free_;
  std::mt19937 random_{3};
};
INSTANTIATE_TEST_SUITE_P(Orders, GraphAttentionTest, kAllOrders, OrderName);

// Tables grow over pages and splits, sequences come and go, have one row or several; nothing that
// the padding has is written, in tensors or pages.
TEST_P(GraphAttentionTest, HasTheBitsOfWorkThatIsQueued) {
  std::vector<std::unique_ptr<TestSequence>> sequences;
  for (int step = 0; step < 60; ++step) {
    const auto wanted = static_cast<size_t>(1 + step % 9);
    while (sequences.size() < wanted) {
      sequences.push_back(std::make_unique<TestSequence>());
      Append(*sequences.back(), static_cast<int>(random_() % (step % 5 == 0 ? 300 : 40)));
    }
    while (sequences.size() > wanted) {
      const auto gone = sequences.begin() + static_cast<int>(random_() % sequences.size());
      Free(**gone);
      sequences.erase(gone);
    }
    std::vector<TestSequence*> chosen;
    std::vector<int> rows;
    int num_rows = 0;
    for (const auto& sequence : sequences) {
      chosen.push_back(sequence.get());
      rows.push_back(step % 4 == 3 && wanted < 5 ? 1 + static_cast<int>(random_() % 3) : 1);
      num_rows += rows.back();
      Append(*sequence, rows.back());
    }
    const Matrix qkv = Matrix::Random(num_rows, kShape.qkv_cols(), static_cast<uint32_t>(step));
    for (int side : {0, 1}) Run(side, chosen, rows, qkv);
    ASSERT_EQ(Tensors(sides_[0]), Tensors(sides_[1])) << "step " << step;
    ASSERT_EQ(Pages(sides_[0]), Pages(sides_[1])) << "step " << step;
  }
  const GraphCounts& counts = sides_[0].device->graph_counts();
  EXPECT_EQ(counts.runs + counts.captures + counts.replays, 60);
  EXPECT_GE(counts.replays, 30);
  EXPECT_EQ(counts.failed_captures, 0);
}

}  // namespace
}  // namespace kvec::kernels::cuda
