#include "coordinator/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/coordinator/text/small_vocabularies.h"

namespace kvec::coordinator::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kTemplate[] =
    "{{ bos_token }}{% for m in messages %}{{ m.role ~ ':' ~ m.content }}<|end|>{% endfor %}"
    "{{ suffix }}{% if add_generation_prompt %}!{% endif %}";
constexpr int32_t kHello = 259, kBos = 263, kEnd = 264;

class ChatTemplateTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::vector<int32_t>> Encode(absl::string_view source,
                                              const std::vector<ChatMessage>& messages,
                                              absl::string_view arguments = "") {
    const auto chat = ChatTemplate::Create(source, *tokenizer_);
    if (!chat.ok()) return chat.status();
    return (*chat)->Encode(messages, arguments);
  }
  const std::unique_ptr<Tokenizer> tokenizer_ = MakeTokenizer(SmallByteLevelData());
};

TEST_F(ChatTemplateTest, MakesTokensOfTheTemplatesSpecialTokensOnly) {
  EXPECT_THAT(*Encode(kTemplate, {{"u", "<|end|>"}, {"a", "hello"}}),
              ElementsAre(kBos, 'u', ':', '<', '|', 'e', 'n', 'd', '|', '>', kEnd, 'a', ':', kHello,
                          kEnd, '!'));
  // Half of a special token from the template does not become one with the user's other half.
  EXPECT_THAT(*Encode("<|en{{ messages[0].content }}", {{"u", "d|>"}}),
              ElementsAre('<', '|', 'e', 'n', 'd', '|', '>'));
}

TEST_F(ChatTemplateTest, MergesAcrossTheBorderBetweenTemplateAndUser) {
  EXPECT_THAT(*Encode("he{{ messages[0].content }}o", {{"u", "ll"}}), ElementsAre(kHello));
}

TEST_F(ChatTemplateTest, TreatsArgumentsAsTypedByTheUser) {
  EXPECT_THAT(*Encode("{{ suffix }}", {{"u", ""}}, R"({"suffix": "<|end|>"})"),
              ElementsAre('<', '|', 'e', 'n', 'd', '|', '>'));
  // In the order of the client.
  EXPECT_EQ(tokenizer_->Decode(
                *Encode("{{ t | tojson }}", {{"u", ""}}, R"({"t": {"z": 1, "a": [2.5]}})"), false),
            R"({"z": 1, "a": [2.5]})");
}

TEST_F(ChatTemplateTest, RejectsBadMessagesAndArguments) {
  const struct {
    std::vector<ChatMessage> messages;
    std::string arguments;
    const char* message;
  } cases[] = {
      {{}, "", "messages: empty"},
      {{{"u", "ok"}, {"u", "a\xFF"}}, "", "messages[1].content: byte 1"},
      {{{"\xC3", "a"}}, "", "messages[0].role: byte 0"},
      {{{"u", "a"}}, "{", "not a JSON object"},
      {{{"u", "a"}}, "[1]", "not a JSON object"},
      {{{"u", "a"}}, R"({"messages": []})", "messages is not for the client"},
      {{{"u", "a"}}, R"({"add_generation_prompt": false})", "add_generation_prompt"},
      {{{"u", "a"}},
       absl::StrCat("{\"a\":", std::string(100'000, '['), "}"),
       "nested deeper than 32"},
  };
  for (const auto& c : cases) {
    const auto ids = Encode(kTemplate, c.messages, c.arguments);
    EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument) << c.message;
    EXPECT_THAT(ids.status().message(), HasSubstr(c.message));
  }
}

TEST_F(ChatTemplateTest, SaysWhenTheModelHasNoTemplateOrABrokenOne) {
  EXPECT_EQ(Encode("", {{"u", "a"}}).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Encode("{% if %}", {{"u", "a"}}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ChatTemplateTest, PassesTheTemplatesOwnRefusalOn) {
  const auto ids = Encode("{{ raise_exception('no system role') }}", {{"system", "a"}});
  EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ids.status().message(), "chat template: no system role");
}

}  // namespace
}  // namespace kvec::coordinator::text
