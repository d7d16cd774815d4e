#ifndef KVEC_COORDINATOR_TEXT_JINJA_TEMPLATE_H_
#define KVEC_COORDINATOR_TEXT_JINJA_TEMPLATE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "coordinator/text/chat_template.h"
#include "nlohmann/json.hpp"

namespace kvec::coordinator::text {

// llama.cpp's Jinja engine behind our types: its exceptions end here as a Status, and its work is
// bounded as far as JinjaGuard says. Immutable; any thread.
class JinjaTemplate {
 public:
  struct Variables {
    absl::Span<const ChatMessage> messages;
    std::string bos_token;
    std::string eos_token;
    // An object; its members are variables too, and their strings count as typed by the user.
    nlohmann::ordered_json arguments;
    absl::Time now;  // for strftime_now
  };
  struct Part {
    std::string text;
    bool is_user_text = false;  // out of a message or an argument, not out of the template
  };

  // INVALID_ARGUMENT for a source that cannot be parsed or is nested too deeply.
  static absl::StatusOr<JinjaTemplate> Parse(absl::string_view source);

  JinjaTemplate(JinjaTemplate&&) noexcept;
  JinjaTemplate& operator=(JinjaTemplate&&) noexcept;
  ~JinjaTemplate();

  // The rendered text with add_generation_prompt set. INVALID_ARGUMENT with the template's words
  // where it calls raise_exception, and for what it cannot do with these variables;
  // RESOURCE_EXHAUSTED beyond the bounds.
  absl::StatusOr<std::vector<Part>> Render(const Variables& variables) const;

 private:
  struct Program;

  explicit JinjaTemplate(std::unique_ptr<Program> program);

  std::unique_ptr<Program> program_;
};

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_JINJA_TEMPLATE_H_
