#include "kernels/cuda/cuda_device.h"

#include <cmath>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "common/tensor/float_conversions.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/kernels/cpu/random_weight.h"
#include "tests/kernels/cuda/device_input.h"
#include "tests/kernels/cuda/device_test.h"
#include "tests/kernels/cuda/paged_cache.h"

namespace kvec::kernels::cuda {
namespace {

using ::testing::HasSubstr;

class CudaDeviceTest : public DeviceTest {
 protected:
  // A matrix in the device's memory, gaps included.
  Tensor ToDevice(const Matrix& matrix) {
    Matrix copy = matrix;
    Tensor tensor = copy.tensor();
    const size_t bytes = static_cast<size_t>(tensor.stride * tensor.rows) * sizeof(float);
    auto memory = device_->Allocate(bytes);
    EXPECT_TRUE(memory.ok()) << memory.status();
    const auto* host = reinterpret_cast<const uint8_t*>(tensor.data);
    EXPECT_TRUE(device_->Upload({host, bytes}, (*memory)->data()).ok());
    tensor.data = static_cast<float*>((*memory)->data());
    memory_.push_back(*std::move(memory));
    return tensor;
  }

  Matrix ToHost(Tensor tensor) {
    Matrix matrix(tensor.rows, tensor.cols);
    auto* host = reinterpret_cast<uint8_t*>(matrix.tensor().data);
    const size_t bytes = static_cast<size_t>(tensor.stride * tensor.rows) * sizeof(float);
    const absl::Status status = device_->Download(tensor.data, absl::MakeSpan(host, bytes));
    EXPECT_TRUE(status.ok()) << status;
    return matrix;
  }

  // Keys as they are.
  absl::Status Append(Tensor qkv, const HeadShape& shape, absl::Span<const int32_t> positions,
                      const AttentionBatch& batch, KvArena& arena) {
    const Tensor angles = ToDevice(NoAngles(qkv.rows, shape.head_dim));
    return device_->RotateAndAppendKv(qkv, shape, {.norm = {}, .angles = angles}, positions, batch,
                                      arena);
  }

  std::vector<std::unique_ptr<DeviceMemory>> memory_;
};
INSTANTIATE_TEST_SUITE_P(Orders, CudaDeviceTest, kAllOrders, OrderName);

TEST(CudaDeviceCreateTest, SaysThatThereIsNoGpu) {
  cusim::Reset({.num_devices = 0});
  const auto device = CudaDevice::Create({});
  EXPECT_EQ(device.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("this machine has no GPU"));
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("cudaErrorNoDevice"));
}

TEST(CudaDeviceCreateTest, RejectsAGpuThatIsNotThere) {
  cusim::Reset();
  const auto device = CudaDevice::Create({.index = 1});
  EXPECT_EQ(device.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("GPU 1: this machine has 1"));
}

TEST_P(CudaDeviceTest, MultipliesStackedWeightsOfDifferentTypes) {
  const cpu::RandomWeight first(TensorType::kQ4_1, 17, 64, 1);
  const cpu::RandomWeight second(TensorType::kBF16, 5, 64, 2);
  std::vector<float> values = first.Dequantized();
  const std::vector<float> more = second.Dequantized();
  values.insert(values.end(), more.begin(), more.end());
  const WeightSource sources[] = {first.source(), second.source()};
  const auto weight = device_->PrepareWeight(sources);
  ASSERT_TRUE(weight.ok()) << weight.status();
  EXPECT_EQ((*weight)->out_features(), 22);

  const Matrix x = Matrix::Random(7, 64, 3);
  const Matrix y = Matrix::Random(7, 22, 4);
  const Matrix bias = Matrix::Random(1, 22, 5);
  const DeviceInput device_x(x, 0, device_->stream());
  for (MatMulMode mode : {MatMulMode::kOverwrite, MatMulMode::kAccumulate}) {
    const Tensor device_y = ToDevice(y);
    ASSERT_TRUE(
        device_->MatMul(**weight, device_x.input(), ToDevice(bias).data, mode, device_y).ok());
    const Matrix out = ToHost(device_y);
    for (int row = 0; row < 7; ++row) {
      for (int col = 0; col < 22; ++col) {
        double expected = bias.at(0, col);
        if (mode == MatMulMode::kAccumulate) expected += y.at(row, col);
        for (int i = 0; i < 64; ++i) {
          const float w = values[static_cast<size_t>(col * 64 + i)];
          expected +=
              double{cpu::RoundTo(KvType::kBF16, x.at(row, i))} * cpu::RoundTo(KvType::kBF16, w);
        }
        ASSERT_NEAR(out.at(row, col), expected, 1e-4);
      }
    }
    EXPECT_TRUE(out.GapsAreIntact());
  }
}

TEST_P(CudaDeviceTest, RejectsInputOfAnotherType) {
  const cpu::RandomWeight weight(TensorType::kBF16, 5, 64, 2);
  const auto prepared = device_->PrepareWeight({weight.source()});
  ASSERT_TRUE(prepared.ok()) << prepared.status();
  const Matrix x = Matrix::Random(7, 64, 3);
  const Tensor y = ToDevice(Matrix(7, 5));
  const DeviceInput apart(x, 2, device_->stream());
  for (const ProductInput& input : {ProductInput::Of(ToDevice(x)), apart.input()}) {
    EXPECT_EQ(device_->MatMul(**prepared, input, nullptr, MatMulMode::kOverwrite, y).code(),
              absl::StatusCode::kInternal);
  }
}

TEST_P(CudaDeviceTest, LooksUpRowsOfAQuantizedTable) {
  const cpu::RandomWeight table(TensorType::kQ8_0, 31, 96, 6);
  const std::vector<float> values = table.Dequantized();
  const Tensor out = ToDevice(Matrix(3, 96));
  const std::vector<int32_t> ids = {30, 0, 7};
  ASSERT_TRUE(device_->EmbeddingLookup(table.source(), ids, 2.0f, out).ok());
  const Matrix rows = ToHost(out);
  for (int row = 0; row < 3; ++row) {
    for (int col = 0; col < 96; ++col) {
      EXPECT_EQ(rows.at(row, col),
                2 * values[static_cast<size_t>(ids[static_cast<size_t>(row)] * 96 + col)]);
    }
  }
  EXPECT_TRUE(rows.GapsAreIntact());
  const absl::Status status = device_->EmbeddingLookup(table.source(), {31, 0, 0}, 1.0f, out);
  EXPECT_THAT(std::string(status.message()), HasSubstr("id 31 of a table with 31 rows"));
}

TEST_P(CudaDeviceTest, KeepsRowsOfEveryLayer) {
  constexpr int kLayers = 3;
  const std::vector<AttentionBatch> layers(kLayers);
  for (int tensor_rows : {5, 8}) {  // the rows that are kept, and with padding
    const Tensor to = ToDevice(Matrix(2 * kLayers, 133));
    const std::vector<KeptRow> rows = {{3, to.data, 2 * to.stride},
                                       {0, to.data + to.stride, 2 * to.stride}};
    ASSERT_TRUE(device_->PrepareStep({layers, {}, tensor_rows, rows}).ok());
    Matrix expected(2 * kLayers, 133);
    for (int layer = 0; layer < kLayers; ++layer) {
      const Matrix queries = Matrix::Random(5, 133, static_cast<uint32_t>(layer));
      ASSERT_TRUE(device_->KeepRows(ToDevice(queries), rows, layer).ok());
      for (int col = 0; col < 133; ++col) {
        expected.at(2 * layer, col) = queries.at(3, col);
        expected.at(2 * layer + 1, col) = queries.at(0, col);
      }
    }
    const Matrix kept = ToHost(to);
    EXPECT_EQ(kept, expected);
    EXPECT_TRUE(kept.GapsAreIntact());
    EXPECT_EQ(device_->KeepRows(to, rows, kLayers).code(), absl::StatusCode::kInternal);
  }
}

TEST_P(CudaDeviceTest, TurnsByTheAnglesOfTheFrequencies) {
  const RopeConfig rope{.theta = 10000.0f, .frequency_factors = {1, 2, 4, 8}};
  const std::vector<int32_t> positions = {3, 70000};
  const std::vector<AttentionBatch> layers(1);
  const Tensor out = ToDevice(Matrix(2, 8));
  EXPECT_EQ(device_->RopeAngles(positions, rope, out).code(), absl::StatusCode::kInternal);
  ASSERT_TRUE(device_->PrepareStep({layers, positions}).ok());
  ASSERT_TRUE(device_->RopeAngles(positions, rope, out).ok());
  const RopeConfig other{.theta = 10000.0f, .frequency_factors = {1, 2}};
  EXPECT_THAT(std::string(device_->RopeAngles(positions, other, out).message()),
              HasSubstr("2 frequency factors of 4 pairs"));
  const Matrix angles = ToHost(out);
  for (int i = 0; i < 4; ++i) {
    const double angle = 70000 * std::pow(10000.0, -i / 4.0) / std::pow(2.0, i);
    EXPECT_NEAR(angles.at(1, i), std::cos(angle), 1e-6);
    EXPECT_NEAR(angles.at(1, 4 + i), std::sin(angle), 1e-6);
  }
}

TEST_P(CudaDeviceTest, AttendsOverItsArena) {
  const HeadShape shape{.num_heads = 6, .num_kv_heads = 2, .head_dim = 64, .group_size = 3};
  const int tokens = 40;
  auto arena = device_->AllocateKvArena({.head_dim = 64, .type = KvType::kBF16, .num_pages = 16});
  ASSERT_TRUE(arena.ok()) << arena.status();
  const Matrix qkv = Matrix::Random(tokens, shape.qkv_cols(), 8);
  const Matrix expected = ReferenceAttention(qkv, shape, KvType::kBF16, 0, 0.125);
  const std::vector<int32_t> pages[] = {{3, 0, 9}, {5, 11, 1}};
  int done = 0;
  for (int rows : {30, 10}) {  // a prompt, then generated tokens
    std::vector<HeadPages> heads;
    for (const auto& head : pages) heads.push_back({head.data(), done + rows});
    const AttentionSequence sequence{0, rows, done == 0, heads};
    const AttentionBatch batch{absl::MakeConstSpan(&sequence, 1), 0, 0.125f};
    const Tensor device_qkv = ToDevice(cpu::RowsOf(qkv, done, done + rows));
    const Tensor out = ToDevice(Matrix(rows, 6 * 64));
    std::vector<int32_t> positions(static_cast<size_t>(rows));
    std::iota(positions.begin(), positions.end(), done);
    ASSERT_TRUE(Append(device_qkv, shape, positions, batch, **arena).ok());
    ASSERT_TRUE(device_->Attention(device_qkv, shape, batch, **arena, ProductInput::Of(out)).ok());
    // Of a prompt tensor cores take queries and weights in bfloat16.
    EXPECT_LE(cpu::LargestDifference(ToHost(out), cpu::RowsOf(expected, done, done + rows)),
              done == 0 ? 2e-2f : 1e-5f);
    done += rows;
  }
}

// Of a Step with a prompt, with generated tokens, with both.
TEST_P(CudaDeviceTest, RoundsAttentionAsAProductTakesIt) {
  const HeadShape shape{.num_heads = 6, .num_kv_heads = 2, .head_dim = 64, .group_size = 3};
  constexpr int kRows = 20;
  const std::vector<int32_t> pages[] = {{3, 0}, {5, 11}, {4, 1}, {7, 2}};
  const Tensor qkv = ToDevice(Matrix::Random(2 * kRows, shape.qkv_cols(), 8));
  const std::vector<int32_t> positions(2 * kRows, 1);
  for (KvType type : {KvType::kBF16, KvType::kF32}) {  // prompts on tensor cores, and without
    auto arena = device_->AllocateKvArena({.head_dim = 64, .type = type, .num_pages = 16});
    ASSERT_TRUE(arena.ok()) << arena.status();
    for (const auto& [first, second] :
         {std::pair(true, true), std::pair(false, false), std::pair(true, false)}) {
      std::vector<HeadPages> heads;
      for (const auto& head : pages) heads.push_back({head.data(), kRows});
      const auto all = absl::MakeConstSpan(heads);
      const AttentionSequence sequences[] = {{0, kRows, first, all.first(2)},
                                             {kRows, kRows, second, all.subspan(2)}};
      const AttentionBatch batch{sequences, 0, 0.125f};
      ASSERT_TRUE(Append(qkv, shape, positions, batch, **arena).ok());
      const Tensor out = ToDevice(Matrix(2 * kRows, 6 * 64));
      const DeviceInput rounded(Matrix(2 * kRows, 6 * 64), 5, device_->stream());
      for (const ProductInput& to : {ProductInput::Of(out), rounded.input()}) {
        ASSERT_TRUE(device_->Attention(qkv, shape, batch, **arena, to).ok());
      }
      EXPECT_EQ(rounded.ToHost(), Rounded(ToHost(out)));
    }
  }
}

TEST_P(CudaDeviceTest, KeepsHostMemoryBehindTheLastCandidate) {
  const HeadShape shape{.num_heads = 2, .num_kv_heads = 2, .head_dim = 64, .group_size = 1};
  auto arena = device_->AllocateKvArena({.head_dim = 64, .type = KvType::kF32, .num_pages = 8});
  ASSERT_TRUE(arena.ok()) << arena.status();
  const std::vector<int32_t> pages[] = {{3, 0}, {5, 1}};
  const std::vector<HeadPages> heads = {{pages[0].data(), 20}, {pages[1].data(), 20}};
  const AttentionSequence sequence{0, 20, true, heads};
  const AttentionBatch batch{absl::MakeConstSpan(&sequence, 1), 0, 0.125f};
  const Tensor qkv = ToDevice(Matrix::Random(20, shape.qkv_cols(), 9));
  ASSERT_TRUE(Append(qkv, shape, std::vector<int32_t>(20, 1), batch, **arena).ok());

  const std::vector<int32_t> visible(4, 20);
  const std::vector<int32_t> candidates = {18, 10};
  const std::vector<int> windows = {2};
  std::vector<float> means(2 * 19, -1.0f);
  std::vector<float> maxima(2 * 19, -1.0f);
  WindowScoreRequest request;
  request.queries = ToDevice(Matrix::Random(2, 2 * 64, 10));
  request.num_queries = 2;
  request.heads = heads;
  request.num_visible = visible;
  request.num_candidates = candidates;
  request.stride = 19;
  request.scale = 0.125f;
  request.windows = windows;
  request.means = means.data();
  request.focus_window = 1;
  request.maxima = maxima.data();
  ASSERT_TRUE(device_->WindowScores(shape, request, **arena).ok());
  for (size_t head = 0; head < 2; ++head) {
    for (size_t i = 0; i < 19; ++i) {
      const bool is_candidate = static_cast<int>(i) < candidates[head];
      EXPECT_EQ(means[head * 19 + i] >= 0, is_candidate);
      EXPECT_EQ(maxima[head * 19 + i] >= 0, is_candidate);
    }
  }
  std::vector<float> norms(2 * 21, -1.0f);
  ASSERT_TRUE(device_->ValueNorms(heads, 21, **arena, norms.data()).ok());
  EXPECT_GT(norms[19], 0);
  EXPECT_EQ(norms[20], -1.0f);
}

TEST_P(CudaDeviceTest, RejectsWhatDoesNotFit) {
  EXPECT_THAT(
      std::string(device_->AllocateKvArena({.head_dim = 12, .num_pages = 1}).status().message()),
      HasSubstr("head_dim: 12"));
  EXPECT_THAT(
      std::string(device_->AllocateKvArena({.head_dim = 72, .type = KvType::kInt8, .num_pages = 1})
                      .status()
                      .message()),
      HasSubstr("head_dim: 72 is no multiple of 16, as int8 needs"));
  EXPECT_EQ(device_->Allocate(size_t{1} << 50).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(device_->Synchronize().ok()) << "a refused allocation outlasts its call";
  auto arena = device_->AllocateKvArena({.head_dim = 64, .num_pages = 2});
  ASSERT_TRUE(arena.ok());
  const PageCopy copy{0, 2};
  EXPECT_THAT(std::string(device_->CopyPages(**arena, absl::MakeConstSpan(&copy, 1)).message()),
              HasSubstr("page: 2"));
}

}  // namespace
}  // namespace kvec::kernels::cuda
