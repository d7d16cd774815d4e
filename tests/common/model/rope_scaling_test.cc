#include "common/model/rope_scaling.h"

#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec {
namespace {

using testing::Each;

// Unscaled over scaled inv_freq of transformers' LlamaRotaryEmbedding with Llama 3.2's parameters.
TEST(Llama3FrequencyFactorsTest, EqualTransformers) {
  std::vector<float> expected(15, 1.0f);
  for (const float factor : {1.65133f, 3.29226f, 9.66673f}) expected.push_back(factor);
  expected.resize(32, 32.0f);
  const auto factors = Llama3FrequencyFactors(
      {.factor = 32, .low_freq_factor = 1, .high_freq_factor = 4, .original_context_length = 8192},
      500000.0f, 64);
  ASSERT_TRUE(factors.ok()) << factors.status();
  ASSERT_EQ(factors->size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR((*factors)[i], expected[i], 1e-4 * expected[i]) << i;
  }
}

TEST(Llama3FrequencyFactorsTest, RejectsParametersThatMakeNoSense) {
  const Llama3RopeScaling good = {8, 1, 4, 8192};
  EXPECT_TRUE(Llama3FrequencyFactors(good, 10000.0f, 8).ok());
  Llama3RopeScaling bad = good;
  bad.factor = 0;
  EXPECT_FALSE(Llama3FrequencyFactors(bad, 10000.0f, 8).ok());
  bad = good;
  bad.low_freq_factor = 4;  // equal to high_freq_factor: would divide by zero
  EXPECT_FALSE(Llama3FrequencyFactors(bad, 10000.0f, 8).ok());
  bad = good;
  bad.original_context_length = -1;
  EXPECT_FALSE(Llama3FrequencyFactors(bad, 10000.0f, 8).ok());
}

TEST(LinearFrequencyFactorsTest, AreAllTheFactorAndNoneForOne) {
  EXPECT_THAT(*LinearFrequencyFactors(8.0f, 6), Each(8.0f));
  EXPECT_EQ(LinearFrequencyFactors(8.0f, 6)->size(), 3u);
  EXPECT_TRUE(LinearFrequencyFactors(1.0f, 6)->empty());
}

TEST(LinearFrequencyFactorsTest, RejectsFactorsThatAreNotPositiveAndFinite) {
  for (const float factor : {0.0f, -1.0f, INFINITY, NAN}) {
    EXPECT_FALSE(LinearFrequencyFactors(factor, 6).ok()) << factor;
  }
}

}  // namespace
}  // namespace kvec
