#include "coordinator/text/utf8.h"

#include <gtest/gtest.h>

namespace kvec::coordinator::text {
namespace {

struct Case {
  std::string bytes;
  size_t invalid_offset;
  std::string shown;  // of the whole characters
  size_t used;
};

TEST(Utf8Test, FindsAndReplacesWhatIsNoCharacter) {
  constexpr size_t kValid = absl::string_view::npos;
  const Case cases[] = {
      {"", kValid, "", 0},
      {std::string("a\0b", 3), kValid, std::string("a\0b", 3), 3},
      {"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", kValid, "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 9},
      {"a\xFFz", 1, "a\xEF\xBF\xBDz", 3},
      {"\x80", 0, "\xEF\xBF\xBD", 1},
      {"\xC0\xAF", 0, "\xEF\xBF\xBD\xEF\xBF\xBD", 2},                  // overlong
      {"\xE0\x80\x80", 0, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 3},  // overlong
      {"\xED\xA0\x80", 0, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 3},  // a surrogate
      {"\xF4\x90\x80\x80", 0, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 4},  // > U+10FFFF
      {"\xE2\x82z", 0, "\xEF\xBF\xBDz", 3},  // one mark for the whole broken beginning
      {"ok\xE2\x82", 2, "ok", 2},            // unfinished
      {"\xF0\x9F\x98", 0, "", 0},
  };
  for (const Case& c : cases) {
    std::string shown;
    EXPECT_EQ(FindInvalidUtf8(c.bytes), c.invalid_offset) << c.shown;
    EXPECT_EQ(AppendWholeCharacters(c.bytes, shown), c.used) << c.shown;
    EXPECT_EQ(shown, c.shown);
  }
}

}  // namespace
}  // namespace kvec::coordinator::text
