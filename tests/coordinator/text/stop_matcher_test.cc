#include "coordinator/text/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

namespace kvec::coordinator::text {
namespace {

struct Outcome {
  std::string text;
  std::optional<std::string> matched;
  bool operator==(const Outcome&) const = default;
};

// The definition, over the whole text: the first begin, there the shortest.
Outcome NaiveSearch(const std::vector<std::string>& stops, bool include_stop,
                    const std::string& text) {
  for (size_t begin = 0; begin < text.size(); ++begin) {
    const std::string* shortest = nullptr;
    for (const std::string& stop : stops) {
      if (stop.empty() || text.compare(begin, stop.size(), stop) != 0) continue;
      if (shortest == nullptr || stop.size() < shortest->size()) shortest = &stop;
    }
    if (shortest == nullptr) continue;
    return {text.substr(0, begin + (include_stop ? shortest->size() : 0)), *shortest};
  }
  return {text, std::nullopt};
}

Outcome Stream(StopMatcher matcher, const std::vector<std::string>& messages) {
  Outcome outcome;
  for (const std::string& message : messages) {
    outcome.text += matcher.Push(message);
    if (matcher.matched().has_value()) break;
  }
  if (!matcher.matched().has_value()) outcome.text += matcher.Flush();
  outcome.matched = matcher.matched();
  return outcome;
}

TEST(StopMatcherTest, HoldsBackOnlyWhatMayBecomeAStop) {
  StopMatcher matcher({"END"}, false);
  EXPECT_EQ(matcher.Push("abcE"), "abc");
  EXPECT_EQ(matcher.Push("N"), "");
  EXPECT_EQ(matcher.Push("x"), "ENx");
  EXPECT_EQ(matcher.Push("EEN"), "E");
  EXPECT_FALSE(matcher.matched().has_value());
  EXPECT_EQ(matcher.Push("D and more"), "");
  EXPECT_EQ(matcher.matched(), "END");
}

TEST(StopMatcherTest, WaitsForAnEarlierMatchAndTakesTheLaterWhenItFails) {
  StopMatcher won({"abcd", "bc"}, false);
  EXPECT_EQ(won.Push("xabc"), "x");
  EXPECT_EQ(won.Push("d"), "");
  EXPECT_EQ(won.matched(), "abcd");
  StopMatcher lost({"abcd", "bc"}, false);
  EXPECT_EQ(lost.Push("xabc"), "x");
  EXPECT_EQ(lost.Push("e"), "a");
  EXPECT_EQ(lost.matched(), "bc");
  StopMatcher ended({"abcd", "bc"}, true);
  EXPECT_EQ(ended.Push("xabc"), "x");
  EXPECT_EQ(ended.Flush(), "abc");
  EXPECT_EQ(ended.matched(), "bc");
}

TEST(StopMatcherTest, PassesEverythingOnWithoutStops) {
  EXPECT_EQ(Stream(StopMatcher({}, false), {"a", "", "b"}), (Outcome{"ab", std::nullopt}));
  EXPECT_EQ(Stream(StopMatcher({""}, false), {"ab"}), (Outcome{"ab", std::nullopt}));
}

TEST(StopMatcherTest, EqualsASearchOverTheWholeTextAtEverySplitPoint) {
  std::mt19937 generator(3);
  const auto random_string = [&](size_t max_size) {
    std::string text(generator() % (max_size + 1), 'a');
    for (char& c : text) c = static_cast<char>('a' + generator() % 2);
    return text;
  };
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops(generator() % 4);
    for (std::string& stop : stops) stop = random_string(7);
    const std::string text = random_string(20);
    const bool include_stop = generator() % 2 == 0;
    const Outcome expected = NaiveSearch(stops, include_stop, text);
    const StopMatcher matcher(stops, include_stop);
    for (size_t split = 0; split <= text.size(); ++split) {
      EXPECT_EQ(Stream(matcher, {text.substr(0, split), text.substr(split)}), expected);
    }
    std::vector<std::string> bytes;
    for (const char c : text) bytes.emplace_back(1, c);
    EXPECT_EQ(Stream(matcher, bytes), expected);
  }
}

TEST(StopMatcherTest, TakesLinearTimeForSelfSimilarStops) {
  StopMatcher matcher({std::string(100'000, 'a') + "b"}, false);
  std::string text;
  for (int i = 0; i < 100; ++i) text += matcher.Push(std::string(100'000, 'a'));
  text += matcher.Flush();
  EXPECT_EQ(text.size(), 10'000'000u);
}

}  // namespace
}  // namespace kvec::coordinator::text
