#ifndef KVEC_COORDINATOR_CLIENT_PROGRESS_BAR_H_
#define KVEC_COORDINATOR_CLIENT_PROGRESS_BAR_H_

#include <string>

#include "coordinator/client/terminal.h"

namespace kvec::coordinator::client {

// One line on the standard error that is redrawn in place, where that is a terminal; nothing
// elsewhere. Erases itself at the end.
class ProgressBar {
 public:
  // `terminal` must outlive the bar.
  ProgressBar(const Terminal& terminal, int num_steps);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // What is being done now.
  void SetLabel(const std::string& label);
  // One step more is done.
  void Advance();

 private:
  void Draw();

  const Terminal& terminal_;
  const int num_steps_;
  int num_done_ = 0;
  std::string label_;
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_PROGRESS_BAR_H_
