#include "kernels/cpu/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/philox.h"
#include "tests/kernels/cpu/isa_test.h"
#include "tests/kernels/cpu/random_matrix.h"
#include "tests/kernels/cpu/sampling_reference.h"

namespace kvec::kernels::cpu {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

SampleResult SampleOne(Matrix& logits, const SampleRequest& request) {
  ThreadPool pool(1);
  SampleResult result;
  const absl::Status status =
      Sample(pool, logits.tensor(), absl::MakeConstSpan(&request, 1), absl::MakeSpan(&result, 1));
  EXPECT_TRUE(status.ok()) << status;
  return result;
}

absl::Status SampleStatus(Matrix& logits, const SampleRequest& request) {
  ThreadPool pool(1);
  SampleResult result;
  return Sample(pool, logits.tensor(), absl::MakeConstSpan(&request, 1),
                absl::MakeSpan(&result, 1));
}

// Draws many tokens, one for each position, and compares their frequencies with `expected`.
void ExpectDrawnWith(Matrix& logits, SampleRequest request, const std::vector<double>& expected) {
  constexpr int kDraws = 4000;
  ThreadPool pool(1);
  std::vector<int> counts(expected.size(), 0);
  std::vector<SampleRequest> requests(kDraws, request);
  for (int i = 0; i < kDraws; ++i)
    requests[static_cast<size_t>(i)].position = static_cast<uint32_t>(i);
  std::vector<SampleResult> results(kDraws);
  const absl::Status status = Sample(pool, logits.tensor(), requests, absl::MakeSpan(results));
  ASSERT_TRUE(status.ok()) << status;
  for (const SampleResult& result : results) ++counts[static_cast<size_t>(result.token)];
  double chi_square = 0;
  double rare = 0;  // tokens too rare for the statistic, taken together
  int rare_count = 0;
  int freedom = -1;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] == 0) {
      EXPECT_EQ(counts[i], 0) << "token " << i << " should have been filtered out";
    } else if (expected[i] * kDraws < 8) {
      rare += expected[i] * kDraws;
      rare_count += counts[i];
    } else {
      chi_square += std::pow(counts[i] - expected[i] * kDraws, 2) / (expected[i] * kDraws);
      ++freedom;
    }
  }
  if (rare > 8) {
    chi_square += std::pow(rare_count - rare, 2) / rare;
    ++freedom;
  }
  // Mean `freedom`, variance twice that; draws are counter-based, so the outcome never varies.
  EXPECT_LE(chi_square, freedom + 4 * std::sqrt(2.0 * freedom) + 1) << freedom;
}

class SamplerTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(Isas, SamplerTest, kAllIsas, IsaTestName);

TEST(PhiloxTest, GivesTheKnownAnswersOfItsAuthors) {
  // kat_vectors of the Random123 library, philox4x32 with 10 rounds.
  EXPECT_THAT(Philox4x32({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  EXPECT_THAT(
      Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
      ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(
      Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
      ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(PhiloxTest, EveryPartOfTheKeyChangesTheDraw) {
  const double draw = UniformDraw(1, 2, 3);
  EXPECT_EQ(UniformDraw(1, 2, 3), draw);
  EXPECT_NE(UniformDraw(2, 2, 3), draw);
  EXPECT_NE(UniformDraw(1 + (uint64_t{1} << 32), 2, 3), draw);
  EXPECT_NE(UniformDraw(1, 3, 3), draw);
  EXPECT_NE(UniformDraw(1, 2, 4), draw);
  EXPECT_GE(draw, 0.0);
  EXPECT_LT(draw, 1.0);
}

TEST_P(SamplerTest, GreedyTakesTheLargestAndTheLowestOfEqualOnes) {
  for (int vocab : {1, 7, 17, 97, 511, 513, 4099}) {
    Matrix logits = Matrix::Random(2, vocab, static_cast<uint32_t>(vocab));
    for (int best : {0, vocab / 2, vocab - 1}) {
      Matrix row = logits;
      row.at(1, best) = 50.0f;
      EXPECT_EQ(SampleOne(row, {.row = 1, .temperature = 0}).token, best);
      row.at(1, vocab - 1) = 50.0f;
      EXPECT_EQ(SampleOne(row, {.row = 1, .temperature = 0}).token, best);
    }
  }
}

TEST_P(SamplerTest, LogProbabilitiesAreThoseOfTheLogitsAsTheyAre) {
  for (int vocab : {7, 97, 3001}) {
    Matrix logits = Matrix::Random(1, vocab, 3, 4.0f);
    logits.at(0, 2) = logits.at(0, 5) = 12.0f;  // equal: the lower id comes first
    const std::vector<std::pair<int32_t, float>> bias = {{1, 100.0f}};
    const SampleResult result =
        SampleOne(logits, {.temperature = 0, .logit_bias = bias, .num_logprobs = 5});
    EXPECT_EQ(result.token, 1);
    double sum = 0;
    for (int i = 0; i < vocab; ++i) sum += std::exp(double{logits.at(0, i)});
    EXPECT_NEAR(result.log_prob, logits.at(0, 1) - std::log(sum), 1e-5);
    ASSERT_EQ(result.top.size(), 5u);
    std::vector<int32_t> order(static_cast<size_t>(vocab));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return logits.at(0, a) > logits.at(0, b); });
    for (size_t i = 0; i < 5; ++i) {
      EXPECT_EQ(result.top[i].first, order[i]);
      EXPECT_NEAR(result.top[i].second, logits.at(0, order[i]) - std::log(sum), 1e-5);
    }
  }
}

TEST_P(SamplerTest, ReportsAsManyAlternativesAsAreAskedFor) {
  Matrix logits = Matrix::Random(1, 9, 4);
  EXPECT_TRUE(SampleOne(logits, {.num_logprobs = -1}).top.empty());
  EXPECT_TRUE(SampleOne(logits, {.num_logprobs = 0}).top.empty());
  EXPECT_EQ(SampleOne(logits, {.num_logprobs = 20}).top.size(), 9u);
}

TEST_P(SamplerTest, GivenTokenIsScoredAndNotDrawn) {
  Matrix logits = Matrix::Random(1, 97, 5);
  const SampleResult result = SampleOne(logits, {.temperature = 0, .given_token = 13});
  EXPECT_EQ(result.token, 13);
  double sum = 0;
  for (int i = 0; i < 97; ++i) sum += std::exp(double{logits.at(0, i)});
  EXPECT_NEAR(result.log_prob, logits.at(0, 13) - std::log(sum), 1e-5);
  EXPECT_TRUE(result.top.empty());
}

TEST_P(SamplerTest, DrawsWithTheProbabilitiesOfTheReference) {
  const std::vector<TokenCount> counts = {{0, 2, 0}, {1, 0, 3}, {2, 1, 1}, {4, 0, 0}};
  const std::vector<std::pair<int32_t, float>> bias = {{3, 1.5f}, {4, -0.5f}};
  const std::vector<int32_t> banned = {5};
  const SampleRequest cases[] = {
      {},
      {.temperature = 0.5f},
      {.temperature = 3.0f},
      {.top_k = 1},
      {.top_k = 4},
      {.top_k = 100},
      {.top_p = 0.6f},
      {.top_p = 0.05f},
      {.min_p = 0.2f},
      {.top_k = 6, .top_p = 0.7f},
      {.temperature = 2.0f, .top_k = 9, .top_p = 0.9f, .min_p = 0.3f},
      {.top_p = 0.95f, .min_p = 0.1f},
      {.logit_bias = bias, .banned = banned},
      {.repetition_penalty = 1.7f, .counts = counts},
      {.frequency_penalty = 0.4f, .presence_penalty = 0.6f, .counts = counts},
      {.temperature = 0.8f,
       .top_k = 8,
       .top_p = 0.9f,
       .min_p = 0.05f,
       .repetition_penalty = 1.3f,
       .frequency_penalty = -0.2f,
       .presence_penalty = 0.1f,
       .counts = counts,
       .logit_bias = bias,
       .banned = banned},
  };
  for (int vocab : {11, 2100}) {  // within one stretch, and across several
    Matrix logits = Matrix::Random(1, vocab, 6, 1.5f);
    int index = 0;
    for (const SampleRequest& request : cases) {
      SCOPED_TRACE(testing::Message() << "case " << index++ << ", vocabulary " << vocab);
      if (request.top_k > vocab) continue;
      ExpectDrawnWith(logits, request, Probabilities(logits, request));
    }
  }
}

TEST_P(SamplerTest, SmallVocabularyIgnoresALargerTopK) {
  Matrix logits = Matrix::Random(1, 11, 7);
  ExpectDrawnWith(logits, {.top_k = 1000}, Probabilities(logits, {}));
}

TEST_P(SamplerTest, EqualLogitsAreFilteredByTokenId) {
  Matrix logits(1, 4000);
  SampleRequest request{.top_k = 3};
  for (uint32_t position = 0; position < 200; ++position) {
    request.position = position;
    EXPECT_LT(SampleOne(logits, request).token, 3);
  }
  request = {.top_p = 0.0009f};
  for (uint32_t position = 0; position < 200; ++position) {
    request.position = position;
    EXPECT_LT(SampleOne(logits, request).token, 4);
  }
}

TEST_P(SamplerTest, ATinyTemperatureIsGreedy) {
  Matrix logits = Matrix::Random(1, 513, 8);
  const int32_t best = SampleOne(logits, {.temperature = 0}).token;
  for (float temperature : {1e-3f, 1e-30f, std::numeric_limits<float>::denorm_min()}) {
    EXPECT_EQ(SampleOne(logits, {.temperature = temperature, .seed = 9}).token, best);
  }
}

TEST_P(SamplerTest, RequestsOfOneRowDoNotDisturbEachOther) {
  Matrix logits = Matrix::Random(3, 700, 9);
  ThreadPool pool(2);
  std::vector<SampleRequest> requests;
  const std::vector<int32_t> banned = {SampleOne(logits, {.row = 1, .temperature = 0}).token};
  for (uint32_t choice = 0; choice < 20; ++choice) {
    requests.push_back({.row = static_cast<int>(choice % 3),
                        .top_p = 0.9f,
                        .seed = 4,
                        .choice = choice,
                        .num_logprobs = 2});
    requests.push_back({.row = 1, .temperature = 0, .banned = banned, .choice = choice});
  }
  std::vector<SampleResult> together(requests.size());
  ASSERT_TRUE(Sample(pool, logits.tensor(), requests, absl::MakeSpan(together)).ok());
  for (size_t i = 0; i < requests.size(); ++i) {
    const SampleResult alone = SampleOne(logits, requests[i]);
    EXPECT_EQ(together[i].token, alone.token);
    EXPECT_EQ(together[i].top, alone.top);
  }
  EXPECT_NE(together[1].token, banned[0]);
}

TEST_P(SamplerTest, LogitsThatAreNoNumbersNameTheirRow) {
  for (int vocab : {7, 97}) {
    for (int at : {0, 5, vocab - 1}) {
      for (float bad : {NAN, kInfinity}) {
        Matrix logits = Matrix::Random(4, vocab, 10);
        logits.at(3, at) = bad;
        const absl::Status status = SampleStatus(logits, {.row = 3, .temperature = 0});
        EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
        EXPECT_THAT(std::string(status.message()), HasSubstr("row 3"));
        EXPECT_TRUE(SampleStatus(logits, {.row = 2, .temperature = 0}).ok());
      }
    }
  }
}

TEST_P(SamplerTest, NegativeInfinityIsATokenThatCannotBe) {
  Matrix logits(1, 40);
  for (int i = 0; i < 40; ++i) logits.at(0, i) = -kInfinity;
  logits.at(0, 33) = 1.0f;
  EXPECT_EQ(SampleOne(logits, {.temperature = 0}).token, 33);
  EXPECT_EQ(SampleOne(logits, {.num_logprobs = 0}).token, 33);
  const std::vector<int32_t> banned = {33};
  const absl::Status status = SampleStatus(logits, {.banned = banned});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no token is left"));
}

TEST(SamplerArgumentsTest, RejectsRequestsThatMakeNoSense) {
  Matrix logits = Matrix::Random(2, 8, 11);
  const std::vector<TokenCount> counts = {{8, 1, 1}};
  const std::vector<std::pair<int32_t, float>> bias = {{-1, 0.0f}};
  const std::vector<std::pair<int32_t, float>> nan_bias = {{1, NAN}};
  const std::vector<int32_t> banned = {100};
  const struct {
    SampleRequest request;
    std::string message;
  } cases[] = {
      {{.row = 2}, "row: 2 of 2"},
      {{.row = -1}, "row: -1"},
      {{.temperature = -1.0f}, "temperature: -1"},
      {{.temperature = NAN}, "temperature: nan"},
      {{.temperature = kInfinity}, "temperature: inf"},
      {{.top_k = -1}, "top_k: -1"},
      {{.top_p = 0.0f}, "top_p: 0"},
      {{.top_p = 1.5f}, "top_p: 1.5"},
      {{.top_p = NAN}, "top_p: nan"},
      {{.min_p = -0.5f}, "min_p: -0.5"},
      {{.min_p = 2.0f}, "min_p: 2"},
      {{.repetition_penalty = 0.0f}, "repetition_penalty: 0"},
      {{.frequency_penalty = NAN}, "frequency_penalty: nan"},
      {{.presence_penalty = kInfinity}, "presence_penalty: inf"},
      {{.counts = counts}, "counts: token 8"},
      {{.logit_bias = bias}, "logit_bias: token -1"},
      {{.logit_bias = nan_bias}, "logit_bias: nan"},
      {{.banned = banned}, "banned: token 100"},
      {{.given_token = 8}, "given_token: token 8"},
  };
  for (const auto& c : cases) {
    const absl::Status status = SampleStatus(logits, c.request);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
}

TEST(SamplerArgumentsTest, RejectsMissingResults) {
  Matrix logits = Matrix::Random(2, 8, 11);
  ThreadPool pool(1);
  const SampleRequest request;
  EXPECT_EQ(Sample(pool, logits.tensor(), absl::MakeConstSpan(&request, 1), {}).code(),
            absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace kvec::kernels::cpu
