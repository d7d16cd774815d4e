#include "coordinator/client/progress_bar.h"

#include <ostream>

#include "absl/strings/str_cat.h"

namespace kvec::coordinator::client {
namespace {

constexpr int kWidth = 24;
constexpr char kEraseLine[] = "\r\033[K";

}  // namespace

ProgressBar::ProgressBar(const Terminal& terminal, int num_steps)
    : terminal_(terminal), num_steps_(num_steps) {}

ProgressBar::~ProgressBar() {
  if (terminal_.err_is_tty) terminal_.err << kEraseLine << std::flush;
}

void ProgressBar::SetLabel(const std::string& label) {
  label_ = label;
  Draw();
}

void ProgressBar::Advance() {
  ++num_done_;
  Draw();
}

void ProgressBar::Draw() {
  if (!terminal_.err_is_tty) return;
  const int filled = num_steps_ > 0 ? kWidth * num_done_ / num_steps_ : 0;
  terminal_.err << absl::StrCat(kEraseLine, "[", std::string(filled, '#'),
                                std::string(kWidth - filled, '.'), "] ", num_done_, "/", num_steps_,
                                "  ", label_)
                << std::flush;
}

}  // namespace kvec::coordinator::client
