#include "coordinator/server/model_alias.h"

#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "coordinator/server/quoted.h"

namespace kvec::coordinator::server {
namespace {

absl::Status ParseBudget(absl::string_view budget, v1::CachePolicy& cache) {
  uint32_t tokens = 0;
  float share = 0;
  if (absl::SimpleAtoi(budget, &tokens) && tokens > 0) {
    cache.set_budget_tokens(tokens);
  } else if (absl::SimpleAtof(budget, &share) && share > 0 && share < 1) {
    cache.set_budget_share(share);
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("budget ", Quoted(budget), " is neither tokens nor a share below 1"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelAlias> ParseModelAlias(absl::string_view text) {
  const size_t equals = text.find('=');
  if (equals == absl::string_view::npos || equals == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(text), " is not POLICY[-BUDGET]=HOST:PORT"));
  }
  ModelAlias alias;
  const absl::string_view name = text.substr(0, equals);
  alias.name = std::string(name);
  alias.listen = std::string(text.substr(equals + 1));
  // Policies have dashes in their names too, but no digit after one.
  const size_t dash = name.rfind('-');
  const bool has_budget = dash != absl::string_view::npos && dash + 1 < name.size() &&
                          absl::ascii_isdigit(name[dash + 1]);
  alias.cache.set_policy(std::string(has_budget ? name.substr(0, dash) : name));
  if (has_budget) {
    if (absl::Status status = ParseBudget(name.substr(dash + 1), alias.cache); !status.ok()) {
      return status;
    }
  }
  return alias;
}

}  // namespace kvec::coordinator::server
