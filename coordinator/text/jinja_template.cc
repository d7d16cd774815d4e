#include "coordinator/text/jinja_template.h"

#include <exception>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/text/jinja_guard.h"
#include "jinja/lexer.h"
#include "jinja/parser.h"
#include "jinja/runtime.h"

namespace kvec::coordinator::text {
namespace {

using nlohmann::ordered_json;

constexpr size_t kMaxSourceBytes = 1 << 20;

// The engine puts an excerpt of the source before what went wrong.
absl::Status EngineError(const std::exception& exception) {
  std::string message = exception.what();
  constexpr absl::string_view kMarker = "Error: ";
  if (const size_t marker = message.rfind(kMarker.data()); marker != std::string::npos) {
    message.erase(0, marker + kMarker.size());
  }
  return absl::InvalidArgumentError(absl::StrCat("chat template: ", message));
}

// Calls `work` and turns whatever the engine throws into a Status.
template <typename Result, typename Work>
absl::StatusOr<Result> CatchAll(Work work) {
  try {
    return work();
  } catch (const JinjaAbort& abort) {
    return abort.status;
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("chat template: out of memory");
  } catch (const std::exception& exception) {
    return EngineError(exception);
  }
}

jinja::value UserText(const std::string& text) {
  auto value = jinja::mk_val<jinja::value_string>(text);
  value->mark_input();
  return value;
}

jinja::value ToValue(const ordered_json& json) {
  switch (json.type()) {
    case ordered_json::value_t::boolean:
      return jinja::mk_val<jinja::value_bool>(json.get<bool>());
    case ordered_json::value_t::number_integer:
    case ordered_json::value_t::number_unsigned:
      return jinja::mk_val<jinja::value_int>(json.get<int64_t>());
    case ordered_json::value_t::number_float:
      return jinja::mk_val<jinja::value_float>(json.get<double>());
    case ordered_json::value_t::string:
      return UserText(json.get_ref<const std::string&>());
    case ordered_json::value_t::array: {
      auto array = jinja::mk_val<jinja::value_array>();
      for (const ordered_json& element : json) array->push_back(ToValue(element));
      return array;
    }
    case ordered_json::value_t::object: {
      auto object = jinja::mk_val<jinja::value_object>();
      for (const auto& [key, value] : json.items()) object->insert(UserText(key), ToValue(value));
      return object;
    }
    default:
      return jinja::mk_val<jinja::value_none>();
  }
}

jinja::value ToValue(absl::Span<const ChatMessage> messages) {
  auto array = jinja::mk_val<jinja::value_array>();
  for (const ChatMessage& message : messages) {
    auto object = jinja::mk_val<jinja::value_object>();
    object->insert("role", UserText(message.role));
    object->insert("content", UserText(message.content));
    array->push_back(object);
  }
  return array;
}

jinja::value RaiseException(const jinja::func_args& args) {
  args.ensure_count(1, 1);
  throw JinjaAbort{absl::InvalidArgumentError(
      absl::StrCat("chat template: ", args.get_pos(0)->as_string().str()))};
}

// The engine's own builds the whole list whatever its length.
jinja::value BoundedRange(const jinja::func_args& args) {
  for (const jinja::value& bound : args.get_args()) {
    if (!jinja::is_val<jinja::value_int>(bound)) continue;
    const int64_t number = bound->as_int();
    if (number > JinjaGuard::kMaxRounds || number < -JinjaGuard::kMaxRounds) {
      throw JinjaAbort{absl::ResourceExhaustedError(absl::StrCat(
          "chat template: range with ", number, ", at most ", JinjaGuard::kMaxRounds))};
    }
  }
  jinja::value list = jinja::global_builtins().at("range")(args);
  JinjaGuard::OfThisThread().CountRounds(static_cast<int64_t>(list->as_array().size()));
  return list;
}

size_t InputBytes(const JinjaTemplate::Variables& variables) {
  constexpr auto kReplace = ordered_json::error_handler_t::replace;
  size_t bytes = variables.arguments.dump(-1, ' ', false, kReplace).size();
  for (const ChatMessage& message : variables.messages) {
    bytes += message.role.size() + message.content.size();
  }
  return bytes;
}

void SetFunction(jinja::context& context, const char* name, const jinja::func_handler& function) {
  context.set_val(name, jinja::mk_val<jinja::value_func>(name, function));
}

}  // namespace

struct JinjaTemplate::Program {
  jinja::program program;
  std::string source;
};

JinjaTemplate::JinjaTemplate(std::unique_ptr<Program> program) : program_(std::move(program)) {}
JinjaTemplate::JinjaTemplate(JinjaTemplate&&) noexcept = default;
JinjaTemplate& JinjaTemplate::operator=(JinjaTemplate&&) noexcept = default;
JinjaTemplate::~JinjaTemplate() = default;

absl::StatusOr<JinjaTemplate> JinjaTemplate::Parse(absl::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("chat template: ", source.size(), " bytes, at most ", kMaxSourceBytes));
  }
  return CatchAll<JinjaTemplate>([&]() -> absl::StatusOr<JinjaTemplate> {
    const jinja::lexer_result tokens = jinja::lexer().tokenize(std::string(source));
    KVEC_RETURN_IF_ERROR(JinjaGuard::CheckNesting(tokens));
    auto program = std::make_unique<Program>();
    program->program = jinja::parse_from_tokens(tokens);
    program->source = tokens.source;
    JinjaGuard::Watch(program->program);
    return JinjaTemplate(std::move(program));
  });
}

absl::StatusOr<std::vector<JinjaTemplate::Part>> JinjaTemplate::Render(
    const Variables& variables) const {
  const absl::TimeZone time_zone = absl::LocalTimeZone();
  const size_t input_bytes = InputBytes(variables);
  bool out_of_memory = false;
  absl::StatusOr<std::vector<Part>> parts = CatchAll<std::vector<Part>>([&] {
    JinjaGuard guard(input_bytes, &out_of_memory);
    jinja::context context(program_->source);
    for (const auto& [name, value] : variables.arguments.items()) {
      context.set_val(name, ToValue(value));
    }
    context.set_val("messages", ToValue(variables.messages));
    context.set_val("bos_token", jinja::mk_val<jinja::value_string>(variables.bos_token));
    context.set_val("eos_token", jinja::mk_val<jinja::value_string>(variables.eos_token));
    context.set_val("add_generation_prompt", jinja::mk_val<jinja::value_bool>(true));
    SetFunction(context, "raise_exception", RaiseException);
    SetFunction(context, "range", BoundedRange);
    // The engine's own calls std::localtime, which is not thread-safe.
    SetFunction(context, "strftime_now", [&](const jinja::func_args& args) -> jinja::value {
      args.ensure_count(1, 1);
      return jinja::mk_val<jinja::value_string>(
          absl::FormatTime(args.get_pos(0)->as_string().str(), variables.now, time_zone));
    });
    const jinja::value result = jinja::runtime(context).execute(program_->program);
    const jinja::value_string text = jinja::runtime::gather_string_parts(result);
    std::vector<Part> parts;
    for (jinja::string_part& part : text->val_str.parts) {
      parts.push_back({std::move(part.val), part.is_input});
    }
    return parts;
  });
  if (out_of_memory && !parts.ok()) {
    return absl::ResourceExhaustedError("chat template: needs too much memory");
  }
  return parts;
}

}  // namespace kvec::coordinator::text
