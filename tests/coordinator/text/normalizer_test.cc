#include "coordinator/text/normalizer.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace kvec::coordinator::text {
namespace {

using Kind = NormalizerStep::Kind;

std::string Utf8(uint32_t code_point) {
  const auto tail = [&](int shift) {
    return static_cast<char>(0x80 | (code_point >> shift & 0x3F));
  };
  const auto lead = [&](int mark, int shift) {
    return static_cast<char>(mark | code_point >> shift);
  };
  if (code_point < 0x80) return {lead(0, 0)};
  if (code_point < 0x800) return {lead(0xC0, 6), tail(0)};
  if (code_point < 0x10000) return {lead(0xE0, 12), tail(6), tail(0)};
  return {lead(0xF0, 18), tail(12), tail(6), tail(0)};
}

// Of compositions those of Hangul shrink most.
TEST(NormalizerTest, NfcShrinksNoCharacterMoreThanMaxShrinkSays) {
  const std::vector<NormalizerStep> nfc = {{Kind::kNfc}};
  const size_t max_shrink = MaxShrink(nfc);
  for (uint32_t code_point = 1; code_point < 0x110000; ++code_point) {
    if (code_point >= 0xD800 && code_point < 0xE000) continue;
    const std::string character = Utf8(code_point);
    const auto normalized = Normalize(character, Place::kStart, nfc);
    ASSERT_TRUE(normalized.ok()) << code_point << ": " << normalized.status();
    EXPECT_LE(character.size(), normalized->size() * max_shrink) << code_point;
  }
  const std::string syllable = Utf8(0x1100) + Utf8(0x1161) + Utf8(0x11A8);
  EXPECT_EQ(Normalize(syllable, Place::kStart, nfc)->size() * max_shrink, syllable.size());
}

TEST(NormalizerTest, KnowsNoBoundForReplacementsThatShrink) {
  EXPECT_EQ(MaxShrink({}), 1u);
  EXPECT_EQ(MaxShrink({{Kind::kReplace, " ", "\u2581"}, {Kind::kPrepend, "", "x"}}), 1u);
  EXPECT_EQ(MaxShrink({{Kind::kReplace, "  ", " "}, {Kind::kNfc}}), 0u);
}

}  // namespace
}  // namespace kvec::coordinator::text
