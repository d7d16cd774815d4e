#include "coordinator/text/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace kvec::coordinator::text {
namespace {

// Of `text` when `byte` follows a match of its first `progress` bytes.
size_t NextProgress(const std::string& text, const std::vector<size_t>& border, size_t progress,
                    char byte) {
  while (progress > 0 && (progress == text.size() || text[progress] != byte)) {
    progress = border[progress - 1];
  }
  return text[progress] == byte ? progress + 1 : 0;
}

std::vector<size_t> Borders(const std::string& text) {
  std::vector<size_t> border(text.size(), 0);
  for (size_t i = 1; i < text.size(); ++i) {
    border[i] = NextProgress(text, border, border[i - 1], text[i]);
  }
  return border;
}

}  // namespace

StopMatcher::StopMatcher(std::vector<std::string> stops, bool include_stop)
    : include_stop_(include_stop) {
  for (std::string& stop : stops) {
    if (stop.empty()) continue;
    std::vector<size_t> border = Borders(stop);
    stops_.push_back({std::move(stop), std::move(border)});
  }
}

std::string StopMatcher::Push(absl::string_view text) {
  for (const char byte : text) {
    Advance(byte);
    // At equal begins the shorter match was found first.
    if (earliest_.has_value() && UndecidedBegin() >= earliest_->begin) return Finish(*earliest_);
  }
  const size_t undecided =
      earliest_.has_value() ? std::min(earliest_->begin, UndecidedBegin()) : UndecidedBegin();
  const size_t num_safe = held_.size() - (num_pushed_ - undecided);
  std::string safe = held_.substr(0, num_safe);
  held_.erase(0, num_safe);
  return safe;
}

std::string StopMatcher::Flush() {
  if (earliest_.has_value()) return Finish(*earliest_);
  return std::exchange(held_, "");
}

void StopMatcher::Advance(char byte) {
  held_ += byte;
  ++num_pushed_;
  for (size_t i = 0; i < stops_.size(); ++i) {
    Stop& stop = stops_[i];
    stop.progress = NextProgress(stop.text, stop.border, stop.progress, byte);
    if (stop.progress < stop.text.size()) continue;
    const size_t begin = num_pushed_ - stop.text.size();
    if (!earliest_.has_value() || begin < earliest_->begin) earliest_ = Match{begin, i};
  }
}

size_t StopMatcher::UndecidedBegin() const {
  size_t longest = 0;
  for (const Stop& stop : stops_) {
    const bool whole = stop.progress == stop.text.size();
    longest = std::max(longest, whole ? stop.border[stop.progress - 1] : stop.progress);
  }
  return num_pushed_ - longest;
}

std::string StopMatcher::Finish(const Match& match) {
  matched_ = stops_[match.stop].text;
  const size_t held_begin = num_pushed_ - held_.size();
  const size_t end = match.begin + (include_stop_ ? matched_->size() : 0);
  std::string text = held_.substr(0, end - held_begin);
  held_.clear();
  return text;
}

}  // namespace kvec::coordinator::text
