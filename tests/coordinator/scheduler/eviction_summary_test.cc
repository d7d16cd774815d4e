#include "coordinator/scheduler/eviction_summary.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::coordinator::scheduler {
namespace {

v1::EvictionReport Report(uint32_t position, double ms, const std::string& kept_token_bits) {
  v1::EvictionReport report;
  report.set_position(position);
  report.set_eviction_ms(ms);
  report.set_kept_token_bits(kept_token_bits);
  return report;
}

void AddLayer(uint32_t layer, uint32_t kept_entries, uint32_t unique_tokens, float mass,
              v1::EvictionReport& report) {
  v1::LayerCacheUsage& usage = *report.add_layers();
  usage.set_layer(layer);
  usage.set_budget(10);
  usage.set_kept_entries(kept_entries);
  usage.set_unique_tokens(unique_tokens);
  usage.set_attention_mass(mass);
}

TEST(EvictionSummaryTest, KeepsEverythingWithoutAReport) {
  v1::Usage usage;
  EvictionSummary().Fill(usage);
  EXPECT_EQ(usage.coverage(), 1);
  EXPECT_EQ(usage.mean_layer_coverage(), 1);
  EXPECT_EQ(usage.evicted_tokens(), 0);
  EXPECT_EQ(usage.layers_size(), 0);
}

TEST(EvictionSummaryTest, JoinsTheLayersOfTwoStages) {
  EvictionSummary summary;
  v1::EvictionReport first = Report(16, 2, std::string("\x0F\x00", 2));
  AddLayer(0, 16, 10, 0.5, first);
  v1::EvictionReport second = Report(16, 3, std::string("\x3C\x80", 2));
  AddLayer(1, 8, 4, 0.25, second);
  summary.Add(0, 2, first);
  summary.Add(1, 2, second);
  v1::Usage usage;
  summary.Fill(usage);
  ASSERT_EQ(usage.layers_size(), 2);
  EXPECT_EQ(usage.layers(0).kept_entries(), 16);
  EXPECT_EQ(usage.layers(1).unique_tokens(), 4);
  EXPECT_DOUBLE_EQ(usage.coverage(), 7.0 / 16);  // bits 0 … 5 and 15
  EXPECT_DOUBLE_EQ(usage.mean_layer_coverage(), 7.0 / 16);
  EXPECT_EQ(usage.evicted_tokens(), 10);  // 24 of 64 entries are left
  EXPECT_EQ(usage.eviction_ms(), 3);
}

TEST(EvictionSummaryTest, JoinsTheHeadsOfTwoRanks) {
  EvictionSummary summary;
  v1::EvictionReport first = Report(8, 1, "\x0F");
  AddLayer(0, 12, 7, 0.4F, first);
  first.set_exchanged_bytes(100);
  first.set_exchange_ms(0.5);
  v1::EvictionReport second = Report(8, 1, "\x0F");
  AddLayer(0, 3, 7, 0.3F, second);
  second.set_exchanged_bytes(60);
  second.set_exchange_ms(0.25);
  summary.Add(0, 3, first);
  summary.Add(1, 3, second);
  v1::Usage usage;
  summary.Fill(usage);
  ASSERT_EQ(usage.layers_size(), 1);
  EXPECT_EQ(usage.layers(0).kept_entries(), 15);
  EXPECT_EQ(usage.layers(0).unique_tokens(), 7);
  EXPECT_EQ(usage.layers(0).budget(), 10);
  EXPECT_FLOAT_EQ(usage.layers(0).attention_mass(), 0.7F);
  EXPECT_EQ(usage.evicted_tokens(), 3);  // 15 of 24 entries are left
  EXPECT_EQ(usage.exchanged_bytes(), 160);
  EXPECT_EQ(usage.exchange_ms(), 0.5);
}

TEST(EvictionSummaryTest, ListsTheKeptTokensOfAllRanksHeads) {
  EvictionSummary summary;
  v1::EvictionReport first = Report(8, 1, "\x0F");
  AddLayer(0, 4, 4, 0.5, first);
  first.mutable_layers(0)->add_kept_token_bits(std::string("\x03"));
  first.mutable_layers(0)->add_kept_token_bits(std::string("\x0C"));
  v1::EvictionReport second = Report(8, 1, "\x0F");
  AddLayer(0, 2, 4, 0.5, second);
  second.mutable_layers(0)->add_kept_token_bits(std::string("\x05"));
  summary.Add(1, 3, second);
  summary.Add(0, 3, first);
  v1::Usage usage;
  summary.Fill(usage);
  EXPECT_THAT(usage.layers(0).kept_token_bits(), testing::ElementsAre("\x03", "\x0C", "\x05"));
}

TEST(EvictionSummaryTest, TellsWhatTheLastEvictionKeptAndTheTimeOfAll) {
  EvictionSummary summary;
  v1::EvictionReport report = Report(8, 1, "\x0F");
  AddLayer(0, 8, 4, 0.5, report);
  summary.Add(0, 1, report);
  report.set_position(16);
  summary.Add(0, 1, report);
  v1::Usage usage;
  summary.Fill(usage);
  EXPECT_EQ(usage.layers(0).kept_entries(), 8);
  EXPECT_EQ(usage.evicted_tokens(), 8);
  EXPECT_DOUBLE_EQ(usage.coverage(), 0.25);
  EXPECT_EQ(usage.eviction_ms(), 2);
}

}  // namespace
}  // namespace kvec::coordinator::scheduler
