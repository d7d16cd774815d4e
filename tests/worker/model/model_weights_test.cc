// Shares of a model's weights against the whole of them.

#include "worker/model/model_weights.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_device.h"
#include "tests/kernels/cpu/random_matrix.h"
#include "tests/worker/model/memory_model.h"

namespace kvec::worker::model {
namespace {

using kernels::MatMulMode;
using kernels::Tensor;
using kernels::cpu::Matrix;

constexpr int kRows = 3;

// The rank's columns of x, with zeros where a neighbour's are stored.
Matrix InputOf(const Matrix& x, const ColumnShare& columns) {
  Matrix part(x.rows(), columns.stored.count);
  for (int row = 0; row < x.rows(); ++row) {
    for (int i = 0; i < columns.held.count; ++i) {
      part.at(row, columns.offset() + i) = x.at(row, columns.held.begin + i);
    }
  }
  return part;
}

class ModelWeightsTest : public testing::TestWithParam<TensorType> {
 protected:
  ModelWeightsTest()
      : device_(*kernels::cpu::CpuDevice::Create({.num_threads = 1})),
        model_(SmallConfig(6, 2, 128, 768, {0, 0}), TypeOf, 7) {}

  // All weights split by columns are of the type; those with hidden_size inputs, which no K type
  // divides, are not.
  static TensorType TypeOf(absl::string_view name) {
    const bool by_columns =
        absl::StrContains(name, "attn_output") || absl::StrContains(name, "down");
    return by_columns ? GetParam() : TensorType::kQ8_0;
  }

  std::unique_ptr<ModelWeights> Load(int rank, int num_ranks) {
    const auto share = ShareOfRank(model_.config(), *ColumnBlocksOf(model_), rank, num_ranks);
    EXPECT_TRUE(share.ok()) << share.status();
    auto weights = ModelWeights::Load(model_, {{1, 1}, *share}, *device_);
    EXPECT_TRUE(weights.ok()) << weights.status();
    return *std::move(weights);
  }

  Matrix Multiply(const kernels::Weight& weight, Matrix x) {
    Matrix y(x.rows(), weight.out_features());
    EXPECT_TRUE(device_
                    ->MatMul(weight, kernels::ProductInput::Of(x.tensor()), nullptr,
                             MatMulMode::kOverwrite, y.tensor())
                    .ok());
    return y;
  }

  // Of every rank's columns, added up, against the product with all columns.
  void ExpectPartsAddUp(const std::vector<std::unique_ptr<ModelWeights>>& parts,
                        ColumnShare RankShare::*columns,
                        std::unique_ptr<kernels::Weight> LayerWeights::*weight) {
    const std::unique_ptr<ModelWeights> whole = Load(0, 1);
    const kernels::Weight& whole_weight = *(whole->layer(1).*weight);
    const Matrix x = Matrix::Random(kRows, whole_weight.in_features(), 3);
    const Matrix expected = Multiply(whole_weight, x);
    Matrix sum(kRows, whole_weight.out_features());
    for (const auto& part : parts) {
      const Matrix product =
          Multiply(*(part->layer(1).*weight), InputOf(x, part->share().rank.*columns));
      for (int row = 0; row < kRows; ++row) {
        for (int col = 0; col < sum.cols(); ++col) sum.at(row, col) += product.at(row, col);
      }
    }
    // Quantised weights round activations, by blocks of 32 of which some are cut.
    const double tolerance = IsQuantized(GetParam()) ? 2e-2 : 1e-4;
    for (int row = 0; row < kRows; ++row) {
      for (int col = 0; col < sum.cols(); ++col) {
        EXPECT_NEAR(sum.at(row, col), expected.at(row, col), tolerance);
      }
    }
  }

  std::unique_ptr<kernels::cpu::CpuDevice> device_;
  MemoryModel model_;
};

TEST_P(ModelWeightsTest, ProductsOfColumnsAddUpToTheWhole) {
  for (int num_ranks : {2, 3, 4, 5}) {
    SCOPED_TRACE(num_ranks);
    std::vector<std::unique_ptr<ModelWeights>> parts;
    for (int rank = 0; rank < num_ranks; ++rank) parts.push_back(Load(rank, num_ranks));
    ExpectPartsAddUp(parts, &RankShare::attention_output, &LayerWeights::attention_output);
    ExpectPartsAddUp(parts, &RankShare::mlp, &LayerWeights::down);
  }
}

TEST_P(ModelWeightsTest, ProductsOfRowsAreThoseOfTheWhole) {
  const std::unique_ptr<ModelWeights> whole = Load(0, 1);
  const ModelConfig& config = model_.config();
  const Matrix x = Matrix::Random(kRows, config.hidden_size, 4);
  const Matrix qkv = Multiply(*whole->layer(1).qkv, x);
  const Matrix gate_up = Multiply(*whole->layer(1).gate_up, x);
  const Matrix logits = Multiply(whole->head(), x);
  for (int rank = 0; rank < 4; ++rank) {
    const std::unique_ptr<ModelWeights> part = Load(rank, 4);
    const RankShare& share = part->share().rank;
    const Matrix part_qkv = Multiply(*part->layer(1).qkv, x);
    const Matrix part_gate_up = Multiply(*part->layer(1).gate_up, x);
    const Matrix part_logits = Multiply(part->head(), x);
    const int q = share.heads.count * config.head_dim;
    const int kv = share.kv_heads.count * config.head_dim;
    const int all_q = config.num_heads * config.head_dim;
    const int all_kv = config.num_kv_heads * config.head_dim;
    for (int row = 0; row < kRows; ++row) {
      for (int i = 0; i < q; ++i) {
        ASSERT_EQ(part_qkv.at(row, i), qkv.at(row, share.heads.begin * config.head_dim + i));
      }
      for (int i = 0; i < kv; ++i) {
        const int from = share.kv_heads.begin * config.head_dim + i;
        ASSERT_EQ(part_qkv.at(row, q + i), qkv.at(row, all_q + from));
        ASSERT_EQ(part_qkv.at(row, q + kv + i), qkv.at(row, all_q + all_kv + from));
      }
      const IndexRange mlp = share.mlp.held;
      for (int i = 0; i < mlp.count; ++i) {
        ASSERT_EQ(part_gate_up.at(row, i), gate_up.at(row, mlp.begin + i));
        ASSERT_EQ(part_gate_up.at(row, mlp.count + i),
                  gate_up.at(row, config.intermediate_size + mlp.begin + i));
      }
      for (int i = 0; i < share.vocabulary.count; ++i) {
        ASSERT_EQ(part_logits.at(row, i), logits.at(row, share.vocabulary.begin + i));
      }
    }
  }
}

TEST_P(ModelWeightsTest, LayersOutsideTheModelAreRejected) {
  const auto share = ShareOfRank(model_.config(), {}, 0, 1);
  for (const LayerRange range : {LayerRange{-1, 1}, LayerRange{1, 2}, LayerRange{0, 0}}) {
    EXPECT_EQ(ModelWeights::Load(model_, {range, *share}, *device_).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, ModelWeightsTest,
                         testing::Values(TensorType::kF32, TensorType::kBF16, TensorType::kQ4_1,
                                         TensorType::kQ8_0, TensorType::kQ4_K, TensorType::kQ6_K),
                         [](const auto& info) { return std::string(GetTraits(info.param).name); });

}  // namespace
}  // namespace kvec::worker::model
