#include "coordinator/text/jinja_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "tests/coordinator/text/small_vocabularies.h"

namespace kvec::coordinator::text {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<std::string> Render(absl::string_view source,
                                   const std::vector<ChatMessage>& messages = {{"user", "hi"}},
                                   const nlohmann::ordered_json& arguments = {}) {
  const auto jinja = JinjaTemplate::Parse(source);
  if (!jinja.ok()) return jinja.status();
  const auto parts = jinja->Render({.messages = messages,
                                    .bos_token = "<bos>",
                                    .eos_token = "<eos>",
                                    .arguments = arguments,
                                    .now = absl::FromUnixSeconds(1700000000)});
  if (!parts.ok()) return parts.status();
  std::string text;
  for (const JinjaTemplate::Part& part : *parts) text += part.text;
  return text;
}

TEST(JinjaTemplateTest, RendersAsPythonsJinjaDoes) {
  setenv("TZ", "UTC", 1);
  tzset();
  const nlohmann::ordered_json goldens = ReadData("chat_template_goldens.json");
  for (const auto& golden : goldens["cases"]) {
    std::vector<ChatMessage> messages;
    for (const auto& message : golden["messages"]) {
      messages.push_back(
          {message["role"].get<std::string>(), message["content"].get<std::string>()});
    }
    const std::string source = goldens["templates"][golden["template"].get<std::string>()];
    const auto text = Render(source, messages, golden["arguments"]);
    if (golden.contains("rendered")) {
      ASSERT_TRUE(text.ok()) << golden["name"] << ": " << text.status();
      EXPECT_EQ(*text, golden["rendered"]) << golden["name"];
    } else {
      EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << golden["name"];
      EXPECT_THAT(text.status().message(), HasSubstr(golden["raised"].get<std::string>()));
    }
  }
}

TEST(JinjaTemplateTest, MarksWhatTheUserTypedThroughFiltersAndMacros) {
  const auto jinja = JinjaTemplate::Parse(
      "{% macro turn(m) %}<|{{ m.role }}|>{{ m.content | trim | upper }}<|end|>{% endmacro %}"
      "{% for m in messages %}{{ turn(m) }}{% endfor %}{{ tool }}");
  ASSERT_TRUE(jinja.ok()) << jinja.status();
  const std::vector<ChatMessage> messages = {{"user", " a<|end|> "}};
  const auto parts = jinja->Render({.messages = messages,
                                    .bos_token = "",
                                    .eos_token = "",
                                    .arguments = {{"tool", "t"}},
                                    .now = absl::UnixEpoch()});
  ASSERT_TRUE(parts.ok()) << parts.status();
  std::string marked;
  for (const JinjaTemplate::Part& part : *parts) {
    marked += part.is_user_text ? absl::StrCat("[", part.text, "]") : part.text;
  }
  EXPECT_EQ(marked, "<|[user]|>[A<|END|>]<|end|>[t]");
}

TEST(JinjaTemplateTest, RejectsSourcesThatDoNotParse) {
  for (const char* source : {"{% if %}", "{{ a", "{% for x in %}{% endfor %}", "{% endif %}",
                             "{% unknown %}", "{{ 'a }}", "{% if a %}"}) {
    EXPECT_EQ(JinjaTemplate::Parse(source).status().code(), absl::StatusCode::kInvalidArgument)
        << source;
  }
  EXPECT_THAT(JinjaTemplate::Parse(std::string((1 << 20) + 1, 'a')).status().message(),
              HasSubstr("1048577 bytes"));
}

TEST(JinjaTemplateTest, TurnsWhatTheTemplateCannotDoIntoAStatus) {
  for (const char* source :
       {"{{ nothing + 1 }}", "{{ 1 + 'a' - 2 }}", "{{ messages < 3 }}",
        "{{ 'x' | no_such_filter }}", "{{ undefined_function() }}", "{{ raise_exception() }}"}) {
    const auto text = Render(source);
    EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << source;
  }
}

std::string Repeat(absl::string_view text, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) absl::StrAppend(&result, text);
  return result;
}

TEST(JinjaTemplateTest, RefusesNestingThatWouldOverflowTheStack) {
  for (const std::string& source :
       {"{{ " + Repeat("(", 100'000) + " }}", "{{ " + Repeat("[", 100'000) + " }}",
        "{{ " + Repeat("not ", 100'000) + "a }}", "{{ 1" + Repeat(" + 1", 100'000) + " }}",
        "{{ a" + Repeat(".a", 100'000) + " }}", "{{ a" + Repeat(" | trim", 100'000) + " }}",
        Repeat("{% if a %}", 50'000), Repeat("{% for a in b %}", 50'000),
        Repeat("{% set a %}", 50'000), "{% if a %}" + Repeat("{% elif a %}", 50'000),
        Repeat("{% if a %}{% set b %}{% endset %}", 20'000)}) {
    const auto jinja = JinjaTemplate::Parse(source);
    EXPECT_EQ(jinja.status().code(), absl::StatusCode::kInvalidArgument) << source.substr(0, 20);
    EXPECT_THAT(jinja.status().message(), HasSubstr("line 1")) << source.substr(0, 20);
  }
}

TEST(JinjaTemplateTest, AcceptsTheDeepestNestingThatItAllows) {
  EXPECT_TRUE(Render("{{ " + Repeat("(", 64) + "1" + Repeat(")", 64) + " }}").ok());
  EXPECT_EQ(*Render("{{ 1" + Repeat(" + 1", 400) + " }}"), "401");
  EXPECT_EQ(*Render(Repeat("{% if true %}", 64) + "x" + Repeat("{% endif %}", 64)), "x");
}

TEST(JinjaTemplateTest, EndsEndlessWork) {
  for (const char* source :
       {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for i in range(2000000000) %}{% endfor %}",
        "{% for i in range(2000) %}{% for j in range(2000) %}{% endfor %}{% endfor %}"}) {
    EXPECT_EQ(Render(source).status().code(), absl::StatusCode::kResourceExhausted) << source;
  }
}

}  // namespace
}  // namespace kvec::coordinator::text
