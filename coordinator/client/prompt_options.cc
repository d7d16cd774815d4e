#include "coordinator/client/prompt_options.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <ostream>
#include <sstream>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status_macros.h"

namespace kvec::coordinator::client {
namespace {

// Length of the UTF-8 character at text[begin], 0 where none begins: overlong forms, surrogates and
// code points beyond U+10FFFF are none.
size_t Utf8CharacterLength(const std::string& text, size_t begin) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[begin + i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (text.size() - begin < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  if (lead == 0xE0 && byte(1) < 0xA0) return 0;
  if (lead == 0xED && byte(1) >= 0xA0) return 0;
  if (lead == 0xF0 && byte(1) < 0x90) return 0;
  if (lead == 0xF4 && byte(1) >= 0x90) return 0;
  return length;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file.is_open()) {
    return absl::NotFoundError(absl::StrCat("--prompt-file ", path, ": ", std::strerror(errno)));
  }
  if (file.peek() == std::ifstream::traits_type::eof()) {
    if (file.bad())
      return absl::NotFoundError(absl::StrCat("--prompt-file ", path, ": unreadable"));
    return std::string();
  }
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

std::string ReadInput(std::istream& in) {
  std::string content((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!content.empty() && content.back() == '\n') content.pop_back();
  return content;
}

absl::StatusOr<std::string> ReadText(const PromptOptions& options, const Terminal& terminal) {
  if (options.text.has_value()) return *options.text;
  if (options.file.has_value() && *options.file != "-") return ReadFile(*options.file);
  if (terminal.in_is_tty) terminal.err << "(type the prompt; Ctrl-D ends it)" << std::endl;
  return ReadInput(terminal.in);
}

}  // namespace

absl::Status CheckUtf8(const std::string& field, const std::string& text) {
  for (size_t i = 0; i < text.size();) {
    const size_t length = Utf8CharacterLength(text, i);
    if (length == 0) {
      return absl::InvalidArgumentError(absl::StrFormat("%s: byte %d (0x%02x) is no UTF-8", field,
                                                        i, static_cast<uint8_t>(text[i])));
    }
    i += length;
  }
  return absl::OkStatus();
}

void AddPromptOptions(CLI::App& command, PromptOptions& options) {
  auto* text = command.add_option("-p,--prompt", options.text, "The prompt")->type_name("TEXT");
  auto* file = command.add_option("-f,--prompt-file", options.file, "Reads the prompt; -: stdin")
                   ->type_name("FILE")
                   ->excludes(text);
  auto* token_ids =
      command
          .add_option_function<std::vector<uint32_t>>(
              "--token-ids",
              [&options](const std::vector<uint32_t>& ids) { options.token_ids = ids; },
              "The prompt as token ids")
          ->type_name("ID,ID,...")
          ->delimiter(',')
          ->excludes(text)
          ->excludes(file);
  auto* chat = command
                   .add_flag("--chat", options.is_chat,
                             "The prompt is a user's message, for the model's chat template")
                   ->excludes(token_ids);
  command.add_option("--system", options.system, "System message in front of it")
      ->type_name("TEXT")
      ->needs(chat);
  for (CLI::Option* option : command.get_options()) {
    if (option->get_group() == "Options" && !option->check_name("--help")) option->group("Prompt");
  }
}

absl::Status ReadPrompt(const PromptOptions& options, const Terminal& terminal,
                        v1::GenerateRequest& request) {
  if (options.token_ids.has_value()) {
    request.mutable_token_ids()->mutable_ids()->Add(options.token_ids->begin(),
                                                    options.token_ids->end());
    return absl::OkStatus();
  }
  KVEC_ASSIGN_OR_RETURN(std::string text, ReadText(options, terminal));
  KVEC_RETURN_IF_ERROR(CheckUtf8("prompt", text));
  if (!options.is_chat) {
    request.set_text(std::move(text));
    return absl::OkStatus();
  }
  if (options.system.has_value()) {
    KVEC_RETURN_IF_ERROR(CheckUtf8("system", *options.system));
    auto* message = request.mutable_chat()->add_messages();
    message->set_role("system");
    message->set_content(*options.system);
  }
  auto* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content(std::move(text));
  return absl::OkStatus();
}

}  // namespace kvec::coordinator::client
